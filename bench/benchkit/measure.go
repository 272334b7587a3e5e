package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// adapter gives the command that calls a function of a tool's adapter.
func (e env) adapter(ctx context.Context, tool, function string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(e.here, "exec.sh"), append([]string{tool, function}, args...)...)
	ownGroup(cmd)
	return cmd
}

// ownGroup lets the end of cmd's context end its children too.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
}

// can reports whether a tool's adapter has a function.
func (e env) can(ctx context.Context, tool, function string) bool {
	return e.adapter(ctx, tool, "can", function).Run() == nil
}

// version gives what a tool says that it is; "" if it isn't installed.
func (e env) version(ctx context.Context, tool string) string {
	out, err := e.adapter(ctx, tool, "version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// A bench measures runs.
type bench struct {
	env
	quietMost float64       // seconds to wait for a quiet machine
	runMost   time.Duration // of one run
	srcServer *server       // registry, proxies or Quay, as they are at the time
	dstServer *server
	proxies   []*server
}

// quiet waits until the machine does nothing else, but not for ever.
func (b *bench) quiet(ctx context.Context) error {
	const step, little = 0.5, 0.12 // seconds, CPU seconds
	for range int(b.quietMost / step) {
		before, err := busy()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step * 1e9):
		}
		if after, err := busy(); err != nil || after-before < little {
			return err
		}
	}
	if b.quietMost > 0 {
		fmt.Fprintln(os.Stderr, "-- the machine is not quiet")
	}
	return nil
}

// measure runs a function of a tool's adapter once. A tool that fails is a
// result too; an error is the harness's.
func (b *bench) measure(ctx context.Context, scenario, tool string, rep int, function string, args ...string) (r run, _ error) {
	if err := b.quiet(ctx); err != nil {
		return r, err
	}
	r = run{scenario: scenario, tool: tool, rep: rep}
	proxiesCPU := func() (s float64) {
		for _, p := range b.proxies {
			s += p.cpu()
		}
		return s
	}
	src, dst, between := b.srcServer.cpu(), b.dstServer.cpu(), proxiesCPU()
	before, err := busy()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if r.status, r.user, r.system, r.rss, err = b.timed(ctx, tool, function, args); err != nil {
		return r, err
	}
	r.wall = time.Since(began).Seconds()
	after, err := busy()
	if err != nil {
		return r, err
	}
	r.src, r.dst, between = b.srcServer.cpu()-src, b.dstServer.cpu()-dst, proxiesCPU()-between
	r.other = after - before - between - r.src - r.dst - r.cpu()
	r.clean = r.other < 0.1+0.12*r.wall*float64(runtime.NumCPU())
	return r, nil
}

// timed calls the function under GNU time: it is small, so that the peak that
// it gives is the tool's and not this process's, from which a child begins.
func (b *bench) timed(ctx context.Context, tool, function string, args []string) (status int, user, system float64, rss int, _ error) {
	limited, cancel := context.WithTimeout(ctx, b.runMost)
	defer cancel()
	out, err := os.Create(filepath.Join(b.logs, "last.out"))
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer out.Close()
	talk, err := os.Create(filepath.Join(b.logs, "last.err"))
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer talk.Close()
	peak := filepath.Join(b.work, "peak")
	cmd := exec.CommandContext(limited, "/usr/bin/time", append([]string{"-q", "-o", peak, "-f", "%M", filepath.Join(b.here, "exec.sh"), tool, function}, args...)...)
	ownGroup(cmd)
	cmd.Stdout, cmd.Stderr = out, talk
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return 0, 0, 0, 0, errors.Join(err, ctx.Err())
	}
	status = cmd.ProcessState.ExitCode()
	if status != 0 {
		fmt.Fprintf(os.Stderr, "-- %s %s: exit status %d, limit %v: %s\n", tool, function, status, b.runMost, tail(talk.Name(), 3))
		return status, 0, 0, 0, nil
	}
	raw, err := os.ReadFile(peak)
	if err == nil {
		rss, err = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	return 0, cmd.ProcessState.UserTime().Seconds(), cmd.ProcessState.SystemTime().Seconds(), rss, err
}

// tail gives the last lines of a file.
func tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
