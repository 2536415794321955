package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// order is what a request says about the answer it wants; everything else in its body is ignored.
type order struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Chunks   int    `json:"chunks"`      // of a stream
	Interval int64  `json:"interval_us"` // from one chunk to the next
	Hold     bool   `json:"hold"`        // after the last chunk, say nothing until the client leaves
}

// completion is what llama-server answers to a short chat, near enough in size and shape.
var completion = []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"rig",` +
	`"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"` +
	strings.Repeat("token ", 40) + `"}}],"usage":{"prompt_tokens":12,"completion_tokens":40,"total_tokens":52},` +
	`"timings":{"prompt_n":12,"prompt_ms":20.5,"predicted_n":40,"predicted_ms":400.25}}`)

const chunkFormat = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"rig",` +
	`"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],"number":%d,"sent_ns":%d}` + "\n\n"

const streamEnd = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"rig",` +
	`"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":%d,"total_tokens":%d}}` + "\n\ndata: [DONE]\n\n"

func serveUpstream(arguments []string) error {
	flags := flag.NewFlagSet("upstream", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:9100", "where to listen")
	flags.Parse(arguments)
	routes := http.NewServeMux()
	routes.HandleFunc("/health", func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(writer, `{"status":"ok"}`)
	})
	routes.HandleFunc("/v1/chat/completions", answerChat)
	return http.ListenAndServe(*address, routes)
}

func answerChat(writer http.ResponseWriter, request *http.Request) {
	var wanted order
	if err := json.NewDecoder(request.Body).Decode(&wanted); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	if wanted.Stream {
		streamChat(writer, request, wanted)
		return
	}
	writer.Header().Set("Content-Type", "application/json")
	writer.Write(completion)
}

// streamChat keeps to a timetable, so that a slow write makes no later chunk late.
func streamChat(writer http.ResponseWriter, request *http.Request, wanted order) {
	control := http.NewResponseController(writer)
	writer.Header().Set("Content-Type", "text/event-stream")
	due := time.Now()
	for number := 0; number < wanted.Chunks; number++ {
		if number > 0 {
			due = due.Add(time.Duration(wanted.Interval) * time.Microsecond)
			time.Sleep(time.Until(due))
		}
		if _, err := fmt.Fprintf(writer, chunkFormat, number, time.Now().UnixNano()); err != nil {
			return
		}
		control.Flush()
	}
	if wanted.Hold {
		<-request.Context().Done()
		return
	}
	fmt.Fprintf(writer, streamEnd, wanted.Chunks, wanted.Chunks+12)
}
