package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var toolDir string // "" until the programs are built

// The programs that are under test, and that measure.
type programs struct{ tool, measure string }

// buildTools builds the programs once, the tool as make build does.
var buildTools = sync.OnceValues(func() (p programs, err error) {
	dir, err := os.MkdirTemp("", "quaymaster-e2e-")
	if err != nil {
		return p, err
	}
	toolDir = dir
	p = programs{tool: filepath.Join(dir, "quaymaster"), measure: filepath.Join(dir, "measure")}
	for _, b := range []struct{ path, module, pkg string }{
		{p.tool, filepath.Join("..", ".."), "./cmd/quaymaster"}, // whose libraries are chosen without ours
		{p.measure, ".", "./measure"},
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.path, b.pkg)
		cmd.Dir = b.module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("build %s: %w\n%s", b.pkg, err, out)
		}
	}
	return p, nil
})

// tool gives the path of the program.
func tool(t testing.TB) string {
	t.Helper()
	return built(t).tool
}

func built(t testing.TB) programs {
	t.Helper()
	p, err := buildTools()
	if err != nil {
		t.Fatal(err)
	}
	return p
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
	return measured(t, append([]string{tool(t)}, args...)...)
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
