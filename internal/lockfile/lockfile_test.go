package lockfile_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/lockfile"
)

const holdEnv = "LOCKFILE_TEST_HOLD" // the folder whose lock a child holds until it is killed

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

func hold(dir string) int {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 1
	}
	if l, err := lockfile.Try(root, "lock"); l == nil || err != nil {
		return 1
	}
	os.Stdout.WriteString("held\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent dies
	return 0
}

func openRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// TestOneAtATime counts without any other lock, and the holders remove the
// file now and then, as the end of a run does.
func TestOneAtATime(t *testing.T) {
	root := openRoot(t)
	counter := filepath.Join(root.Name(), "counter")
	if err := os.WriteFile(counter, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const workers, turns = 6, 25
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range turns {
				l, err := lockfile.Acquire(t.Context(), root, "lock")
				if err != nil {
					t.Error(err)
					return
				}
				raw, err := os.ReadFile(counter)
				if err == nil {
					err = os.WriteFile(counter, append(raw, '.'), 0o644)
				}
				release := l.Release
				if (w+n)%3 == 0 {
					release = l.Remove
				}
				if err := errors.Join(err, release()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if raw, err := os.ReadFile(counter); len(raw) != workers*turns || err != nil {
		t.Errorf("counted %d, %v, want %d", len(raw), err, workers*turns)
	}
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	root := openRoot(t)
	held, err := lockfile.Acquire(t.Context(), root, "lock")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := lockfile.Try(root, "lock"); l != nil || err != nil {
		t.Fatalf("a second lock: %v, %v", l, err)
	}
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() {
		_, err := lockfile.Acquire(ctx, root, "lock")
		done <- err
	}()
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("got %v, want the context's cause", err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestTheDeadHoldNothing: a lock lives as long as its process.
func TestTheDeadHoldNothing(t *testing.T) {
	root := openRoot(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdEnv+"="+root.Name())
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" || err != nil {
		t.Fatalf("the child said %q, %v", line, err)
	}
	if l, err := lockfile.Try(root, "lock"); l != nil || err != nil {
		t.Errorf("got the lock of a living process: %v, %v", l, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	l, err := lockfile.Acquire(t.Context(), root, "lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := root.Lstat("lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}
}
