package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// measured is run for a command that turns into the program, by env or prlimit.
func measured(t testing.TB, command ...string) result {
	t.Helper()
	out := filepath.Join(t.TempDir(), "peak")
	cmd := exec.CommandContext(t.Context(), built(t).measure, append([]string{out}, command...)...)
	cmd.Env = toolEnv(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("%q was not measured: %v\n%s", command, err, &stderr)
	}
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	if _, err := fmt.Sscan(string(raw), &r.status, &r.peak); err != nil {
		t.Fatal(err)
	}
	return r
}
