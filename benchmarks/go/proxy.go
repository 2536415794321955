package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
)

// serveProxy is the yardstick: Go's own reverse proxy with neither keys nor accounting. It finds the model in the
// body, as whatever stands before several engines must; "blind" leaves that out too.
func serveProxy(arguments []string) error {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:9200", "where to listen")
	upstream := flags.String("upstream", "http://127.0.0.1:9100", "where to forward to")
	blind := flags.Bool("blind", false, "don't look into the body")
	flags.Parse(arguments)
	target, err := url.Parse(*upstream)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 4096, 4096
	transport.DisableCompression = true
	transport.Proxy = nil
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = transport
	forward.FlushInterval = -1 // at once
	if *blind {
		return http.ListenAndServe(*address, forward)
	}
	return http.ListenAndServe(*address, http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var fields map[string]any
		if err == nil {
			err = json.Unmarshal(body, &fields)
		}
		if name, ok := fields["model"].(string); err != nil || !ok || name == "" {
			http.Error(writer, "the body names no model", http.StatusBadRequest)
			return
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(writer, request)
	}))
}
