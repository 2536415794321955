package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"time"
)

var (
	dataMark   = []byte("data: ")
	doneMark   = []byte("data: [DONE]")
	numberMark = []byte(`"number":`)
	sentMark   = []byte(`"sent_ns":`)
)

// watcher is one client of streams and what it saw.
type watcher struct {
	firsts, lags durations
	chunks       int
}

// measureStreams keeps a number of streams open, each client with its next one when one has ended.
func measureStreams(arguments []string) error {
	flags := flag.NewFlagSet("streams", flag.ExitOnError)
	var aim target
	aim.addFlags(flags)
	streams := flags.Int("streams", 256, "how many at the same time")
	seconds := flags.Float64("seconds", 5, "how long new streams are begun")
	chunks := flags.Int("chunks", 100, "of each stream")
	interval := flags.Duration("interval", 20*time.Millisecond, "from one chunk to the next")
	flags.Parse(arguments)
	if err := aim.open(*streams); err != nil {
		return err
	}
	body := aim.payload(map[string]any{"stream": true, "chunks": *chunks, "interval_us": interval.Microseconds()})
	begin := time.Now()
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	var failed failures
	var everyone sync.WaitGroup
	watchers := make([]watcher, *streams)
	for index := range watchers {
		everyone.Add(1)
		go func() {
			defer everyone.Done()
			for time.Now().Before(end) {
				if err := watchers[index].follow(&aim, body, *chunks); err != nil {
					failed.add(err)
					time.Sleep(5 * time.Millisecond)
				}
			}
		}()
	}
	everyone.Wait()
	took := time.Since(begin).Seconds()
	firsts, lags := make([]durations, *streams), make([]durations, *streams)
	total := 0
	for index, watcher := range watchers {
		firsts[index], lags[index] = watcher.firsts, watcher.lags
		total += watcher.chunks
	}
	first, lag := join(firsts), join(lags)
	return printResult(map[string]any{
		"streams": len(first), "errors": failed.count, "first_error": failed.first,
		"chunks": total, "chunks_per_s": float64(total) / took,
		"lag_p50_ms": lag.milliseconds(50), "lag_p99_ms": lag.milliseconds(99),
		"first_p50_ms": first.milliseconds(50), "first_p99_ms": first.milliseconds(99),
	})
}

// follow reads one stream to its end and checks that no chunk is missing.
func (w *watcher) follow(aim *target, body []byte, chunks int) error {
	started := time.Now()
	answer, err := aim.post(body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	next, isDone := 0, false
	for lines.Scan() {
		line := lines.Bytes()
		if !bytes.HasPrefix(line, dataMark) {
			continue
		}
		if isDone = bytes.Equal(line, doneMark); isDone {
			continue
		}
		sent, isChunk := readField(line, sentMark)
		if !isChunk {
			continue
		}
		now := time.Now()
		if number, _ := readField(line, numberMark); number != int64(next) {
			return fmt.Errorf("chunk %d came instead of %d", number, next)
		}
		if next == 0 {
			w.firsts = append(w.firsts, now.Sub(started))
		}
		w.lags = append(w.lags, now.Sub(time.Unix(0, sent)))
		w.chunks++
		next++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if next != chunks || !isDone {
		return fmt.Errorf("the stream ended after %d of %d chunks", next, chunks)
	}
	return nil
}

// readField finds a number behind its name; cheaper than decoding, which would slow everyone down.
func readField(line, mark []byte) (int64, bool) {
	at := bytes.Index(line, mark)
	if at < 0 {
		return 0, false
	}
	rest := line[at+len(mark):]
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, false
	}
	value, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return value, err == nil
}
