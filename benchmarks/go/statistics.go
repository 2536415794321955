package main

import (
	"encoding/json"
	"math"
	"os"
	"sort"
	"time"
)

// durations are samples of one kind.
type durations []time.Duration

// milliseconds returns a percentile by nearest rank; the samples must be sorted.
func (d durations) milliseconds(percent float64) float64 {
	if len(d) == 0 {
		return 0
	}
	rank := int(math.Ceil(percent / 100 * float64(len(d))))
	return float64(d[max(rank, 1)-1].Nanoseconds()) / 1e6
}

// join sorts all samples of several clients.
func join(parts []durations) durations {
	var all durations
	for _, part := range parts {
		all = append(all, part...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all
}

func printResult(result map[string]any) error {
	return json.NewEncoder(os.Stdout).Encode(result)
}
