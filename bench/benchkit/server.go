package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a child process that listens: a registry, a proxy, a Quay.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start runs argv and waits until it listens at address. Its output goes to
// NAME.log.
func (e env) start(ctx context.Context, name, address string, argv ...string) (*server, error) {
	if answers(ctx, address) {
		return nil, fmt.Errorf("start %s: something listens on %s already", name, address)
	}
	log, err := os.Create(filepath.Join(e.logs, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{cmd: exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// Not a signal of the terminal's ends it, but stop, or the end of this process.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // how it ended is in its log
	}()
	for !answers(ctx, address) {
		select {
		case <-s.done:
			return nil, fmt.Errorf("%s ended: see %s", name, log.Name())
		case <-ctx.Done():
			s.stop()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return s, nil
}

func answers(ctx context.Context, address string) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = c.Close() // it was opened to see that it opens
	}
	return err == nil
}

// stop ends the server and waits until it is gone. A nil server has ended.
func (s *server) stop() {
	if s == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.done
}

// cpu gives the seconds that the server's threads have used so far; 0 for none.
func (s *server) cpu() (seconds float64) {
	if s == nil {
		return 0
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		ran, _, _ := strings.Cut(string(raw), " ") // nanoseconds
		n, _ := strconv.ParseFloat(ran, 64)
		seconds += n / 1e9
	}
	return seconds
}

// ticks adds up what /proc gives in 1/100 s.
func ticks(fields ...string) (seconds float64) {
	for _, f := range fields {
		n, _ := strconv.ParseFloat(f, 64)
		seconds += n / 100
	}
	return seconds
}

// busy gives the CPU seconds that the machine has spent so far, on whatever.
func busy() (float64, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat: no line of all CPUs")
	}
	return ticks(f[1], f[2], f[3], f[6], f[7], f[8]), nil // without idle and waiting
}

// registry starts distribution's registry over the folder dir.
func (e env) registry(ctx context.Context, name, address, dir string) (*server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(e.bench, name+".yml")
	err := os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s, maxthreads: 100}, delete: {enabled: true}, cache: {blobdescriptor: inmemory}}
http: {addr: "%s", relativeurls: false}
`, dir, address), 0o644)
	if err != nil {
		return nil, err
	}
	return e.start(ctx, name, address, "registry", "serve", config)
}
