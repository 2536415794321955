package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// measureRequests sends plain requests from a number of clients, each with its next one as soon as it has its answer.
func measureRequests(arguments []string) error {
	flags := flag.NewFlagSet("requests", flag.ExitOnError)
	var aim target
	aim.addFlags(flags)
	clients := flags.Int("clients", 32, "how many send at the same time")
	seconds := flags.Float64("seconds", 5, "how long, after the warm-up")
	warmUp := flags.Float64("warm-up", 0.5, "seconds that don't count")
	count := flags.Int64("count", 0, "send this many instead, without warm-up")
	flags.Parse(arguments)
	if err := aim.open(*clients); err != nil {
		return err
	}
	body := aim.payload(nil)
	begin := time.Now()
	end := begin.Add(time.Duration((*warmUp + *seconds) * float64(time.Second)))
	if *count == 0 {
		begin = begin.Add(time.Duration(*warmUp * float64(time.Second)))
	}
	var sent, total atomic.Int64
	var failed failures
	var everyone sync.WaitGroup
	samples := make([]durations, *clients)
	for client := range samples {
		everyone.Add(1)
		go func() {
			defer everyone.Done()
			buffer := bytes.NewBuffer(make([]byte, 0, 8192))
			for (*count > 0 && sent.Add(1) <= *count) || (*count == 0 && time.Now().Before(end)) {
				started := time.Now()
				total.Add(1)
				err := exchange(&aim, body, buffer)
				if err != nil {
					failed.add(err)
					time.Sleep(5 * time.Millisecond)
				} else if !started.Before(begin) {
					samples[client] = append(samples[client], time.Since(started))
				}
			}
		}()
	}
	everyone.Wait()
	took := time.Since(begin).Seconds()
	all := join(samples)
	return printResult(map[string]any{
		"requests": len(all), "with_warm_up": total.Load(), "errors": failed.count, "first_error": failed.first,
		"requests_per_s": float64(len(all)) / took,
		"p50_ms":         all.milliseconds(50), "p99_ms": all.milliseconds(99),
	})
}

// exchange sends a request and reads and checks its answer.
func exchange(aim *target, body []byte, buffer *bytes.Buffer) error {
	answer, err := aim.post(body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	buffer.Reset()
	if _, err := io.Copy(buffer, answer.Body); err != nil {
		return err
	}
	if !bytes.Equal(buffer.Bytes(), completion) {
		return errors.New("the answer is not the upstream's")
	}
	return nil
}
