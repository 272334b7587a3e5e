package daemontest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A Daemon runs until its test ends.
type Daemon struct {
	// Socket is the path of its socket, where it speaks the Docker Engine API.
	Socket string

	client []string // program that talks to it, and its first arguments
	env    []string
}

// Host is where the daemon is, in the form of DOCKER_HOST.
func (d Daemon) Host() string { return "unix://" + d.Socket }

// Command is the daemon's own client, docker or podman, with args.
func (d Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.client[0], append(d.client[1:len(d.client):len(d.client)], args...)...)
	cmd.Env = d.env
	return cmd
}

// Do runs a command of the daemon's own client and gives what it prints.
func (d Daemon) Do(t testing.TB, args ...string) string {
	t.Helper()
	cmd := d.Command(t.Context(), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", filepath.Base(d.client[0]), args, err, out, &stderr)
	}
	return string(out)
}

// script starts a daemon and stops it when standard input ends, so also when the
// tests are killed.
const script = `"$@" </dev/null & read -r _; kill $!; wait $!`

// folder makes one of a daemon's own. It goes with the test.
func folder(t testing.TB, name string) (at func(string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", name+"-") // a test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return func(name string) string { return filepath.Join(dir, name) }
}

// start runs the daemon that command starts until the test ends, and waits until
// it answers.
func (d Daemon) start(t testing.TB, command ...string) {
	t.Helper()
	// Not CommandContext: it is to end after the test's context, and orderly.
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, command...)...) //nolint:noctx // as said
	cmd.Env = d.env
	var log bytes.Buffer // read once the daemon is gone
	cmd.Stdout, cmd.Stderr = &log, &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which is its sign to end
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the daemon: %v\n%s", err, tail(log.String(), 4000))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := d.Command(ctx, "version").CombinedOutput()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the daemon doesn't answer: %s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail gives the end of s, at most n bytes.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }
