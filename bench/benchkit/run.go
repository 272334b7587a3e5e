package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// limits say how often a tool does a scenario.
type limits struct {
	reps    int     // clean runs that are wanted
	more    int     // runs beyond that, in place of those that weren't clean
	cellMax float64 // seconds in one scenario after which a tool is given up, with what it has
}

// cmdRun runs scenarios: the first turn of every tool, then the second of every
// tool, so that what the machine does at one time meets them all.
func cmdRun(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flags("run")
	path := fs.String("o", "", "`file` of results to write, or to add to (default $BENCH/results.tsv)")
	by := fs.String("t", "", "`tools`, as \"floor:4 quaymaster:4\" (default: those that can be the fastest in each scenario)")
	fresh := fs.Bool("n", false, "write new files, $BENCH/results/DATE-TIME.tsv")
	shown := fs.Bool("r", false, "report in the end")
	if err := fs.Parse(args); err != nil {
		return err
	}
	e, err := readEnv()
	if err != nil {
		return err
	}
	l, b := limits{more: 3}, &bench{env: e}
	few, runMax := 0, 0
	for _, n := range []struct {
		name string
		to   *int
		def  int
	}{{"REPS", &l.reps, 5}, {"N_LAT", &few, 40}, {"RUN_MAX", &runMax, 180}} {
		if *n.to, err = number(n.name, n.def); err != nil {
			return err
		}
	}
	if l.cellMax, err = number("CELL_MAX", 240.0); err != nil {
		return err
	}
	if b.quietMost, err = number("QUIET_MAX", 15.0); err != nil {
		return err
	}
	if b.quietMost == 0 {
		l.more = 0 // on a busy machine each run counts
	}
	b.runMost = time.Duration(runMax) * time.Second
	plan, err := choose(scenarios(few, variable("DELAY", "20ms")), fs.Args(), strings.Fields(*by))
	if err != nil {
		return err
	}
	switch {
	case *fresh:
		*path = filepath.Join(e.bench, "results", time.Now().Format("20060102-150405")+".tsv")
		if err := os.MkdirAll(filepath.Dir(*path), 0o755); err != nil {
			return err
		}
	case *path == "":
		*path = filepath.Join(e.bench, "results.tsv")
	}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	w, err := openWriter(*path, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if b.srcServer, err = e.registry(ctx, "src", e.src, filepath.Join(e.work, "src")); err != nil {
		return err
	}
	defer func() { b.srcServer.stop(); b.dstServer.stop() }()
	if err := b.facts(ctx, w, plan); err != nil {
		return err
	}
	for _, s := range plan {
		if err := b.play(ctx, s, l, w); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if !*shown {
		return nil
	}
	r, err := readResults(*path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\n%s\nThe runs are in %s\n", r.markdown(), *path)
	return err
}

// choose gives the scenarios named, or all that a whole run does, with the tools named.
func choose(all []scenario, names, tools []string) (plan []scenario, _ error) {
	known := map[string]scenario{}
	for _, s := range all {
		known[s.name] = s
		if len(names) == 0 && s.all {
			plan = append(plan, s)
		}
	}
	for _, name := range names {
		s, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("there is no scenario %s", name)
		}
		plan = append(plan, s)
	}
	for i := range plan {
		if len(tools) > 0 {
			plan[i].by = tools
		}
	}
	return plan, nil
}

// play is one scenario, by every tool that is installed and can do it.
func (b *bench) play(ctx context.Context, sc scenario, l limits, w *writer) (err error) {
	s := &stage{bench: b, scenario: sc, out: w}
	if sc.list != "" {
		if s.list, s.images, err = sc.images(b.env); err != nil {
			return err
		}
	}
	tools := slices.DeleteFunc(slices.Clone(sc.by), func(t string) bool {
		return sc.tokens() && strings.HasPrefix(t, "floor") || b.version(ctx, t) == "" || !b.can(ctx, t, sc.do)
	})
	// The proxies stand still while the destination's registry starts anew.
	source, dest := sc.source, sc.dest
	if sc.kind == listing {
		source, dest = nil, nil
	}
	defer s.bare()
	if err := s.behind(ctx, source, dest); err != nil {
		return err
	}
	left := slices.Clone(tools)
	clean, spent := map[string]map[string]int{}, map[string]float64{}
	for rep := 1; rep <= l.reps+l.more && len(left) > 0; rep++ {
		for _, t := range slices.Clone(left) {
			done, err := s.turn(ctx, t, rep)
			if err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			enough, failed := true, false
			if clean[t] == nil {
				clean[t] = map[string]int{}
			}
			for _, r := range done {
				spent[t] += r.wall
				if r.clean {
					clean[t][r.scenario]++
				} else if l.more > 0 {
					fmt.Fprintf(os.Stderr, "-- not clean: %.2f CPU s of others\n", r.other)
				}
				enough = enough && clean[t][r.scenario] >= l.reps
				failed = failed || r.status != 0
			}
			if enough || failed || spent[t] > l.cellMax {
				left = slices.DeleteFunc(left, func(o string) bool { return o == t })
			}
		}
	}
	if !sc.counted {
		return nil
	}
	s.bare()
	if err := s.behind(ctx, []string{}, dest); err != nil {
		return err
	}
	for _, t := range tools {
		if err := s.count(ctx, t); err != nil {
			return fmt.Errorf("count: %s: %w", t, err)
		}
	}
	return nil
}

// facts notes what the machine is, the versions of tools, and what the
// scenarios' images come to.
func (b *bench) facts(ctx context.Context, w *writer, plan []scenario) error {
	facts := [][2]string{{"date", time.Now().UTC().Format(time.RFC3339)}, {"machine", machine()}}
	seen := map[string]bool{}
	for _, s := range plan {
		for _, t := range s.by {
			name, _, _ := strings.Cut(t, ":")
			if seen[name] {
				continue
			}
			seen[name] = true
			v := b.version(ctx, t)
			if v == "" {
				fmt.Fprintf(os.Stderr, "-- %s isn't installed\n", name)
				continue
			}
			facts = append(facts, [2]string{"version " + name, v})
		}
		if s.list == "" {
			continue
		}
		_, images, err := s.images(b.env)
		if err != nil {
			return fmt.Errorf("%w (gen.sh makes them)", err)
		}
		distinct, references := map[string]int64{}, 0
		for _, i := range images {
			err := newClient().walk(ctx, b.src, i.repo, i.tag, func(_ string, m *manifest) error {
				for _, d := range m.blobs() {
					distinct[d.Digest] = d.Size
					references++
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("%w (gen.sh makes them)", err)
			}
		}
		facts = append(facts, [2]string{"data " + s.name, counts{"images": len(images), "distinct": len(distinct), "references": references}.String()})
	}
	for _, f := range facts {
		if err := w.fact(f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

// machine says what this runs on.
func machine() string {
	model := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d x %s, %s", runtime.NumCPU(), model, runtime.GOOS)
}
