package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/archive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// The test binary is also the process that is killed: it adds an image to an
// archive.
const pathEnv = "ARCHIVE_TEST_PATH"

func TestMain(m *testing.M) {
	if os.Getenv(pathEnv) == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background(), os.Getenv(pathEnv)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

var big = sync.OnceValue(func() imagetest.Image { return plain("big", make([]byte, 8<<20)) })

func child(ctx context.Context, path string) error {
	u, err := backend.ParseURI("tar://" + path)
	if err != nil {
		return err
	}
	target, err := archive.Kind.Target(ctx, u, backend.Env{})
	if err != nil {
		return err
	}
	fmt.Println("begun")
	if _, err := put(ctx, target, "h.x/big:1", big()); err != nil {
		return err
	}
	fmt.Println("put")
	return errors.Join(target.Finish(ctx), target.Close())
}

// TestKilledRunsLeaveAWholeArchive: the one of before or the new one, and beside
// it nothing that the next run doesn't take away.
func TestKilledRunsLeaveAWholeArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	mustRun(t, "tar://"+path, "h.x/one:1", one)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), pathEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		want := []string{"begun\n", "begun\nput\n"}[n%2]
		if _, err := io.ReadFull(out, make([]byte, len(want))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		same(t, mustOpen(t, "tar://"+path), "h.x/one:1", one)
		if raw, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		} else if !bytes.Equal(raw, old) { // it was done before
			same(t, mustOpen(t, "tar://"+path), "h.x/big:1", big())
			if err := os.WriteFile(path, old, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What a run leaves that is killed between the last two steps, or where files
	// can't be without a name.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".a.tar.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pathEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	images := mustOpen(t, "tar://"+path)
	if got := names(t, images); !slices.Equal(got, []string{"h.x/big:1", "h.x/one:1"}) {
		t.Errorf("names %q", got)
	}
	same(t, images, "h.x/big:1", big())
	only(t, filepath.Dir(path), "a.tar")
}
