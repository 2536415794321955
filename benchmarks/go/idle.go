package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
)

// holdStreams opens streams of one chunk that then say nothing, and keeps them until standard input ends.
func holdStreams(arguments []string) error {
	flags := flag.NewFlagSet("idle", flag.ExitOnError)
	var aim target
	aim.addFlags(flags)
	streams := flags.Int("streams", 1000, "how many")
	flags.Parse(arguments)
	if err := aim.open(*streams); err != nil {
		return err
	}
	body := aim.payload(map[string]any{"stream": true, "chunks": 1, "hold": true})
	for index := 0; index < *streams; index++ {
		answer, err := aim.post(body)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if line, err := bufio.NewReader(answer.Body).ReadBytes('\n'); err != nil || !bytes.Contains(line, sentMark) {
			return errors.Join(errors.New("a stream did not begin"), err)
		}
	}
	if err := printResult(map[string]any{"open": *streams}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
