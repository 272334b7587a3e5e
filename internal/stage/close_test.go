package stage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// TestRunsThatEndTogether: each meets the others' run folders on their way out.
func TestRunsThatEndTogether(t *testing.T) {
	const runs, rounds = 4, 50
	path := t.TempDir()
	for range rounds {
		var wg sync.WaitGroup
		for range runs {
			st, err := stage.Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := os.Lstat(filepath.Join(path, stage.Folder)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s stays: %v", stage.Folder, err)
		}
	}
}

// TestHiddenFolderIsALink: whoever made the folder put a link there, to nowhere
// or to what a sweep would remove.
func TestHiddenFolderIsALink(t *testing.T) {
	for _, target := range []string{"nowhere", "blobs"} {
		path := t.TempDir()
		theirs := filepath.Join(path, "blobs", "run-of-somebody")
		if err := errors.Join(os.MkdirAll(theirs, 0o755), os.Symlink(target, filepath.Join(path, stage.Folder))); err != nil {
			t.Fatal(err)
		}
		st := open(t, path)
		done := make(chan error, 1)
		go func() { done <- st.WriteFile(t.Context(), "file", nil) }()
		select {
		case err := <-done:
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%s: got %v, want invalid content", target, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: it hangs", target)
		}
		if _, err := os.Lstat(theirs); err != nil {
			t.Errorf("%s: what was there is gone: %v", target, err)
		}
	}
}

// TestCloseWaitsForNobodyForLong: a process that is stopped may hold the lock.
func TestCloseWaitsForNobodyForLong(t *testing.T) {
	path := t.TempDir()
	st, other := open(t, path), open(t, path)
	if _, err := st.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock, err := other.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if got, err := filepath.Glob(filepath.Join(path, stage.Folder, "run-*")); len(got) != 1 || err != nil {
		t.Errorf("there is %q, %v, want only the other's run", got, err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
