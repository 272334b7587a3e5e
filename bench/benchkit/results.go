package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A run is one tool's work in one scenario, as measured: a line of a file of
// results, in the order of these fields.
type run struct {
	scenario, tool string
	rep            int     // from 1
	status         int     // the tool's exit status
	wall           float64 // seconds, as all that follow but rss
	user, system   float64 // of the tool and its children
	rss            int     // KiB, the peak of its largest process
	src, dst       float64 // CPU of the registries
	other          float64 // CPU of everything else on the machine but proxies
	clean          bool    // other was little
}

func (r run) cpu() float64 { return r.user + r.system }

const runHeader = "scenario\ttool\trep\trc\twall\tuser\tsys\trss_kb\tsrc_cpu\tdst_cpu\tother_cpu\tclean"

func (r run) String() string {
	return fmt.Sprintf("%s\t%s\t%d\t%d\t%.3f\t%.3f\t%.3f\t%d\t%.3f\t%.3f\t%.3f\t%t", r.scenario, r.tool, r.rep, r.status, r.wall, r.user, r.system, r.rss, r.src, r.dst, r.other, r.clean)
}

func parseRun(line string) (r run, _ error) {
	f := strings.Split(line, "\t")
	if len(f) != 12 {
		return r, fmt.Errorf("%d columns, want 12: %q", len(f), line)
	}
	r.scenario, r.tool, r.clean = f[0], f[1], f[11] == "true"
	var errs []error
	for i, to := range map[int]*int{2: &r.rep, 3: &r.status, 7: &r.rss} {
		n, err := strconv.Atoi(f[i])
		*to = n
		errs = append(errs, err)
	}
	for i, to := range map[int]*float64{4: &r.wall, 5: &r.user, 6: &r.system, 8: &r.src, 9: &r.dst, 10: &r.other} {
		n, err := strconv.ParseFloat(f[i], 64)
		*to = n
		errs = append(errs, err)
	}
	return r, errors.Join(errs...)
}

// requests are what one end was asked in one run.
type requests struct {
	scenario, tool, end string // source, dest
	counts              counts
}

// results are what the files say that run has written: FILE has the runs,
// FILE.requests "scenario tool end counts", FILE.facts "key value": what is as
// it is for the whole file, the last line of a key counting.
type results struct {
	runs     []run
	requests []requests
	facts    map[string]string
}

// readResults reads what there is; FILE itself must be.
func readResults(path string) (*results, error) {
	r := &results{facts: map[string]string{}}
	err := eachLine(path, func(line string) error {
		if line == runHeader {
			return nil
		}
		one, err := parseRun(line)
		r.runs = append(r.runs, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = eachLine(path+".requests", func(line string) error {
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			return fmt.Errorf("%d columns, want 4: %q", len(f), line)
		}
		r.requests = append(r.requests, requests{f[0], f[1], f[2], parseCounts(f[3])})
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err = eachLine(path+".facts", func(line string) error {
		key, value, _ := strings.Cut(line, "\t")
		r.facts[key] = value
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

func eachLine(path string, do func(string) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if err := do(s.Text()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return s.Err()
}

// A cell is what is known of one tool in one scenario.
type cell struct {
	tool   string
	runs   []run // the clean ones; all that ended well if there is none
	failed int
	noisy  bool // none was clean
}

// cells gives the tools of a scenario, fastest first, failed ones last.
func (r *results) cells(scenario string) (all []cell) {
	clean, rest := map[string][]run{}, map[string][]run{}
	failed := map[string]int{}
	var tools []string
	for _, one := range r.runs {
		if one.scenario != scenario {
			continue
		}
		if !slices.Contains(tools, one.tool) {
			tools = append(tools, one.tool)
		}
		switch {
		case one.status != 0:
			failed[one.tool]++
		case one.clean:
			clean[one.tool] = append(clean[one.tool], one)
		default:
			rest[one.tool] = append(rest[one.tool], one)
		}
	}
	for _, t := range tools {
		c := cell{tool: t, runs: clean[t], failed: failed[t]}
		if len(c.runs) == 0 {
			c.runs, c.noisy = rest[t], len(rest[t]) > 0
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b cell) int {
		switch {
		case len(a.runs) == 0 || len(b.runs) == 0:
			return len(b.runs) - len(a.runs)
		case a.wall() < b.wall():
			return -1
		}
		return 1
	})
	return all
}

// cell gives one tool's, false if it has no run that ended well.
func (r *results) cell(scenario, tool string) (cell, bool) {
	for _, c := range r.cells(scenario) {
		if c.tool == tool {
			return c, len(c.runs) > 0
		}
	}
	return cell{}, false
}

// most gives the largest sum of the counts named, at one end or at "" both, in
// one run of a tool; false if none was counted.
func (r *results) most(scenario, tool, end string, names ...string) (n int, ok bool) {
	ends := map[string][]int{}
	for _, q := range r.requests {
		if q.scenario != scenario || q.tool != tool || end != "" && q.end != end {
			continue
		}
		sum := 0
		for _, name := range names {
			sum += q.counts[name]
		}
		ends[q.end] = append(ends[q.end], sum)
		ok = true
	}
	// Both ends are written for each run, in the same order.
	a, b := ends["source"], ends["dest"]
	for i := range max(len(a), len(b)) {
		sum := 0
		if i < len(a) {
			sum += a[i]
		}
		if i < len(b) {
			sum += b[i]
		}
		n = max(n, sum)
	}
	return n, ok
}

func (c cell) wall() float64 { return c.median(func(r run) float64 { return r.wall }) }
func (c cell) cpu() float64  { return c.median(run.cpu) }

// rss gives the highest peak of all runs, in MiB.
func (c cell) rss() float64 {
	n := 0
	for _, r := range c.runs {
		n = max(n, r.rss)
	}
	return float64(n) / 1024
}

// median gives that of a column; 0 without runs.
func (c cell) median(column func(run) float64) float64 {
	var v []float64
	for _, r := range c.runs {
		v = append(v, column(r))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
