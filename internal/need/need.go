// Package need says what a test needs that the machine may lack: a program,
// the rights of root. On a developer's machine the test is skipped; under
// CI=true it fails, so that a green run has run everything.
//
// It is the only place where a test may be skipped (internal/archtest looks).
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Program gives the path of the program name, which scripts/set-up.sh installs.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lack(t, name+" is not installed; run scripts/set-up.sh")
	}
	return path
}

// Root asks for the rights of root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "it needs root")
	}
}

func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
