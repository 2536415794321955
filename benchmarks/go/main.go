// Command rig holds the parts of Corral's gateway benchmark that must cost little themselves: an upstream that
// answers like an inference engine, a plain reverse proxy as the yardstick, and the load.
//
//	rig upstream -address HOST:PORT
//	rig proxy    -address HOST:PORT -upstream URL [-blind]
//	rig requests -url URL -model NAME [-keys FILE] [-clients N] [-seconds S | -count N]
//	rig streams  -url URL -model NAME [-keys FILE] [-streams N] [-seconds S] [-chunks N] [-interval D]
//	rig idle     -url URL -model NAME [-keys FILE] [-streams N]
//
// The last three print one line of JSON. "idle" then keeps its streams open until its standard input ends.
package main

import (
	"fmt"
	"os"
)

var commands = map[string]func(arguments []string) error{
	"upstream": serveUpstream,
	"proxy":    serveProxy,
	"requests": measureRequests,
	"streams":  measureStreams,
	"idle":     holdStreams,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "rig: the first argument must be upstream, proxy, requests, streams or idle")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		os.Exit(1)
	}
}
