package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestKillAtAnyMoment kills the program (SIGKILL) while it copies into a folder,
// and runs it again. What had its final name is right and isn't fetched again,
// and afterwards everything is there.
func TestKillAtAnyMoment(t *testing.T) {
	const images, seed = 9, 2026
	g := &gate{}
	q := startQuay(t, quaytest.Options{}, g.wrap)
	q.fill(t, images, 40_000)
	total := 0
	for _, b := range q.blobs() {
		total += len(b)
	}
	for _, k := range keepers {
		t.Run(k.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			moments := []int{0} // bytes of blobs
			for range 7 {
				moments = append(moments, rng.IntN(total*4/5)) // dir leaves a platform out
			}
			for _, n := range moments {
				t.Run(fmt.Sprintf("after %d of %d bytes", n, total), func(t *testing.T) {
					folder := filepath.Join(t.TempDir(), "out")
					reached := g.arm(n)
					cmd := startProcess(t, new(bytes.Buffer), q.source(), k.scheme+folder)
					ended := until(t, cmd, reached)
					kill(t, cmd)
					<-ended
					g.open()
					if cmd.ProcessState.Exited() {
						t.Errorf("it ended by itself: %v", cmd.ProcessState)
					}
					q.goOn(t, k, folder)
				})
			}
			for _, n := range []int{1, 4, 8} {
				t.Run(fmt.Sprintf("with %d of %d names", n, images), func(t *testing.T) {
					folder := filepath.Join(t.TempDir(), "out")
					cmd := startProcess(t, new(bytes.Buffer), q.source(), k.scheme+folder)
					ended := waited(cmd)
					select {
					case <-k.reaches(t, folder, n):
						kill(t, cmd)
						<-ended
					case err := <-ended:
						if err != nil {
							t.Fatalf("it ended before: %v\n%s", err, cmd.Stderr)
						}
					}
					q.goOn(t, k, folder)
				})
			}
		})
	}
}

// reaches gives a channel that is closed when folder has n names. Others write
// it meanwhile.
func (k keeper) reaches(t *testing.T, folder string, n int) <-chan struct{} {
	reached := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			raw, _ := os.ReadFile(filepath.Join(folder, k.list)) // it may come yet
			if bytes.Count(raw, []byte(k.entry)) >= n {
				close(reached)
				return
			}
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(looking.Wait)
	return reached
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// goOn runs the program again after one that didn't get to its end. Nothing that
// this one left may be wrong, and none of its whole blobs is fetched again.
func (q *quay) goOn(t *testing.T, k keeper, folder string) {
	t.Helper()
	before := k.walk(t, folder)
	for _, w := range before.wrong {
		t.Errorf("before the second run: %s", w)
	}
	t.Logf("%d names, %d whole files and %d others were there", len(before.names), len(before.blobs), len(before.temp))
	q.forget()
	processed(t, "--verify-full", q.source(), k.scheme+folder)
	k.complete(t, folder, q.names())
	fetched := q.fetched()
	for d, b := range q.blobs() {
		most := 1
		if before.blobs[k.kept(b)] {
			most = 0
		}
		if fetched[d] > most {
			t.Errorf("%s was fetched %d times again, and it was whole: %t", d, fetched[d], most == 0)
		}
	}
}
