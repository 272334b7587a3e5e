package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

var toolDir string // "" until the tool is built

// buildTool builds the program once, as make build does.
var buildTool = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "quaymaster-e2e-")
	if err != nil {
		return "", err
	}
	toolDir = dir
	path := filepath.Join(dir, "quaymaster")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./cmd/quaymaster")
	cmd.Dir = filepath.Join("..", "..") // the module, whose libraries are chosen without ours
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tool: %w\n%s", err, out)
	}
	return path, nil
})

// tool gives the path of the program.
func tool(t testing.TB) string {
	t.Helper()
	path, err := buildTool()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A result is what a run of the program left.
type result struct {
	stdout, stderr string
	status         int   // exit status; -1: killed by a signal
	peak           int64 // bytes that were resident at most
}

// run runs the program to its end, in an empty home, and measures it.
func run(t testing.TB, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "peak")
	cmd := exec.CommandContext(t.Context(), self, append([]string{out, tool(t)}, args...)...)
	cmd.Env = toolEnv(t)
	cmd.Env = append(cmd.Env, roleEnv+"=measure")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("the tool was not measured: %v\n%s", err, &stderr)
	}
	var r result
	if _, err := fmt.Sscan(string(raw), &r.status, &r.peak); err != nil {
		t.Fatal(err)
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// must is run for a command that has to succeed.
func must(t testing.TB, args ...string) result {
	t.Helper()
	r := run(t, args...)
	if r.status != 0 {
		t.Fatalf("quaymaster %q: status %d\n%s", args, r.status, r.stderr)
	}
	return r
}

// toolEnv is an environment that holds nothing of the caller's logins.
func toolEnv(t testing.TB) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}
}

// start starts the program and doesn't wait: for tests that interrupt or kill
// it. What it says goes to stderr.
func start(ctx context.Context, t testing.TB, stderr *bytes.Buffer, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, tool(t), args...)
	cmd.Env = toolEnv(t)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// measureTool runs a command and writes its exit status and its peak resident
// memory into a file. It is a process of its own because Linux counts, until
// exec, the memory of whoever forks as the child's: the tests' would be taken
// for the tool's. This one's is small.
func measureTool(args []string) error {
	if len(args) < 2 {
		return errors.New("it needs a file and a command")
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system doesn't count memory")
	}
	text := strconv.Itoa(cmd.ProcessState.ExitCode()) + " " + strconv.FormatInt(usage.Maxrss<<10, 10) // it counts in KiB
	return os.WriteFile(args[0], []byte(text), 0o600)
}
