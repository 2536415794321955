package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// target is what the load is aimed at.
type target struct {
	url, model, keysFile string
	keys                 []string
	turn                 atomic.Int64
	client               *http.Client
}

func (t *target) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&t.url, "url", "", "the address up to /v1")
	flags.StringVar(&t.model, "model", "rig", "the model to name")
	flags.StringVar(&t.keysFile, "keys", "", "a file with one API key per line, used in turn")
}

// open reads the keys and makes a client whose connections are all kept.
func (t *target) open(connections int) error {
	if t.keysFile != "" {
		text, err := os.ReadFile(t.keysFile)
		if err != nil {
			return err
		}
		t.keys = strings.Fields(string(text))
	}
	t.client = &http.Client{Transport: &http.Transport{
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, DisableCompression: true,
	}}
	return nil
}

// payload is the body of a request for a chat, with further fields.
func (t *target) payload(further map[string]any) []byte {
	fields := map[string]any{
		"model":       t.model,
		"temperature": 0.7,
		"messages":    []map[string]string{{"role": "user", "content": "Why is the sky blue?"}},
	}
	for name, value := range further {
		fields[name] = value
	}
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err) // texts and numbers can be written
	}
	return body
}

// post sends a request and returns the answer if its status is 200.
func (t *target) post(body []byte) (*http.Response, error) {
	request, err := http.NewRequest("POST", t.url+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if len(t.keys) > 0 {
		turn := t.turn.Add(1) - 1
		request.Header.Set("Authorization", "Bearer "+t.keys[int(turn)%len(t.keys)])
	}
	answer, err := t.client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
		answer.Body.Close()
		return nil, fmt.Errorf("%s: %s", answer.Status, text)
	}
	return answer, nil
}

// failures counts what went wrong and remembers the first.
type failures struct {
	lock  sync.Mutex
	count int
	first string
}

func (f *failures) add(err error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.count++; f.count == 1 {
		f.first = err.Error()
	}
}
