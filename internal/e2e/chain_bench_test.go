package e2e

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkFilterChain measures the CPU of the program with three filters
// against one, which find nothing, so that each layer keeps its blob. They take
// turns, so that what else the machine does slows both; the ratio may be 1.15.
func BenchmarkFilterChain(b *testing.B) {
	const most = 1.15
	from := startRegistry(b, nil)
	pushLayers(b, from.host, "app", 4, bigFiles{random: 24, text: 40})
	source := "registry://" + from.host + "/app:v1"
	specs := []string{"exclude:pattern=no/such/*", "exclude:pattern=**/*.nothing", "exclude:pattern=no/**/{file,folder}"}
	cost := func(n int) time.Duration {
		args := []string{source, "ocidir://" + filepath.Join(b.TempDir(), "out")}
		for _, s := range specs[:n] {
			args = append(args, "-f", s)
		}
		cmd := startProcess(b, new(bytes.Buffer), args...)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	cost(1) // the source's files are in memory from here on
	var one, three time.Duration
	runs := 0
	for b.Loop() {
		for range 3 {
			one, three, runs = one+cost(1), three+cost(3), runs+1
		}
	}
	ratio := float64(three) / float64(one)
	b.ReportMetric(one.Seconds()/float64(runs), "cpu-s/one-filter")
	b.ReportMetric(three.Seconds()/float64(runs), "cpu-s/three-filters")
	b.ReportMetric(ratio, "ratio")
	if ratio > most {
		b.Errorf("three filters that find nothing cost %.2f times as much as one, %.2f at most", ratio, most)
	}
}
