package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// most is how long an interrupted run may take.
const most = 5 * time.Second

// TestSignal interrupts a run that has copied some images and is in the middle
// of others.
func TestSignal(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for _, k := range keepers {
			t.Run(sig.String()+"/"+k.name, func(t *testing.T) {
				g := &gate{}
				q := startQuay(t, quaytest.Options{}, g.wrap)
				q.fill(t, 9, 40_000)
				folder, file := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "report")
				var said bytes.Buffer
				reached := g.arm(200_000)
				cmd := startProcess(t, &said, q.source(), k.scheme+folder, "--report", file)
				ended := until(t, cmd, reached)
				began := time.Now()
				signal(t, cmd, sig)
				<-ended
				g.open()
				if d, status := time.Since(began), cmd.ProcessState.ExitCode(); d > most || status != 130 {
					t.Errorf("status %d after %s\n%s", status, d, &said)
				}
				if !strings.Contains(said.String(), "Summary: ") || !strings.Contains(said.String(), "Interrupted: ") {
					t.Errorf("it doesn't sum up:\n%s", &said)
				}

				before := k.walk(t, folder)
				for _, w := range before.wrong {
					t.Error(w)
				}
				if len(before.temp) > 0 {
					t.Errorf("left behind: %q", before.temp)
				}
				r := report(t, file)
				if !r.Interrupted || r.Totals.Copied == 0 || r.Totals.Interrupted == 0 || r.Totals.Failed > 0 {
					t.Errorf("the report says interrupted %t, %+v", r.Interrupted, r.Totals)
				}
				copied(t, r, before)
				q.goOn(t, k, folder)
			})
		}
	}
}

// report reads a --report.
func report(t *testing.T, file string) oci.Report {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r oci.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// copied looks whether what r says was copied is there, and whether what is there
// was copied; or interrupted, between its commit and the end of its verification.
func copied(t *testing.T, r oci.Report, there found) {
	t.Helper()
	may := map[string]bool{}
	for _, i := range r.Images {
		may[i.Reference] = i.Status == oci.StatusCopied || i.Status == oci.StatusInterrupted
		if i.Status == oci.StatusCopied && there.names[i.Reference] != i.Digest {
			t.Errorf("%s is %q, the report says %s", i.Reference, there.names[i.Reference], i.Digest)
		}
	}
	for name := range there.names {
		if !may[name] {
			t.Errorf("%s is there, and the report doesn't say so", name)
		}
	}
}

// signal sends sig to cmd, which may have ended.
func signal(t *testing.T, cmd *exec.Cmd, sig os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil && cmd.ProcessState == nil {
		t.Log(err)
	}
}

// TestSignalOfAStuckRun interrupts a run that can't end in order, because nobody
// takes what it says: it ends all the same, and at once when told again.
func TestSignalOfAStuckRun(t *testing.T) {
	tests := []struct {
		name  string
		again bool
	}{
		{"once", false},
		{"again and again", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &gate{}
			q := startQuay(t, quaytest.Options{}, g.wrap)
			q.fill(t, 3, 20_000)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			reached := g.arm(30_000)
			cmd := exec.CommandContext(t.Context(), tool(t), "process", "--plain-http", q.source(), "ocidir://"+filepath.Join(t.TempDir(), "out"))
			cmd.Env = toolEnv(t)
			cmd.Stderr = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := until(t, cmd, reached)
			stuff(t, r, w)

			began := time.Now()
			signal(t, cmd, os.Interrupt)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for running := true; running; {
				select {
				case <-ended:
					running = false
				case <-tick.C:
					if tt.again {
						signal(t, cmd, os.Interrupt)
					}
				}
			}
			d, status := time.Since(began), cmd.ProcessState.Sys().(syscall.WaitStatus)
			switch {
			case !tt.again && (status.ExitStatus() != 130 || d > most):
				t.Errorf("status %d after %s", status.ExitStatus(), d)
			case tt.again && (!status.Signaled() || status.Signal() != syscall.SIGINT || d > time.Second):
				t.Errorf("%v after %s, want an end by the second signal at once", cmd.ProcessState, d)
			}
		})
	}
}

// stuff fills the pipe from w to r, so that who writes into it next waits. The
// goroutine that does it ends when the test closes r.
func stuff(t *testing.T, r, w *os.File) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		<-done
		_ = w.Close() // it is broken
	})
	for full := false; !full; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}, 0)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		full = n == 0
	}
}
