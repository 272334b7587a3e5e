package need_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/need"
)

// TestLack is also the child of TestProgram: it needs what is nowhere.
func TestLack(t *testing.T) {
	if os.Getenv("NEED_TEST_CHILD") == "" {
		return
	}
	need.Program(t, "no-such-program")
	t.Error("went on without the program")
}

func TestProgram(t *testing.T) {
	for ci, want := range map[string]string{"true": "--- FAIL: TestLack", "": "--- SKIP: TestLack"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLack$", "-test.v")
		cmd.Env = append(os.Environ(), "CI="+ci, "NEED_TEST_CHILD=1")
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || !strings.Contains(string(out), "no-such-program is not installed") {
			t.Errorf("CI=%q: got %v and\n%s\nwant %q", ci, err, out, want)
		}
	}
	if got := need.Program(t, "go"); got == "" {
		t.Error("found no path of go")
	}
}
