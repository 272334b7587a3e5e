package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// mirror starts a Quay where u may push to org with the password p.
func mirror(t *testing.T, o quaytest.Options) (to *quay, args []string) {
	t.Helper()
	to = startQuay(t, o, nil)
	to.CreateUser("u", "p")
	to.CreateOrg("org", "u")
	return to, []string{"registry://" + to.host, "--dest-creds", "u:p", "--rate-limit", "0"}
}

// TestFaultsCostNoBlobTwice copies from one Quay to another, both of which reset
// or refuse (503) one in fifty requests: each distinct blob leaves the source
// once, and comes to each repository once.
func TestFaultsCostNoBlobTwice(t *testing.T) {
	const images = 40
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel() // most of it is waiting before the next attempt
			from := startQuay(t, quaytest.Options{Fault: quaytest.Faults(2*seed, 0.02)}, nil)
			from.fill(t, images, 20_000)
			to, args := mirror(t, quaytest.Options{Fault: quaytest.Faults(2*seed+1, 0.02)})
			args = append([]string{from.source()}, args...)

			file := filepath.Join(t.TempDir(), "report")
			first := processed(t, append(args, "--report", file)...)
			if !strings.Contains(first.stderr, "No failed images.") {
				t.Errorf("it says\n%s", first.stderr)
			}
			if r := report(t, file); r.Totals.Copied != images || r.Totals.Verified != images {
				t.Errorf("the report says %+v", r.Totals)
			}
			a, b := from.Counts()["fault"], to.Counts()["fault"]
			t.Logf("%d faults at the source, %d at the destination", a, b)
			if a == 0 || b == 0 {
				t.Errorf("%d and %d faults show nothing", a, b)
			}

			from.fetchedOnce(t)
			puts := map[oci.Digest]int{}
			done := to.Transfers()
			for blob, n := range done.Puts {
				puts[blob.Digest] += n
			}
			for d := range from.blobs() {
				if puts[d] != 1 {
					t.Errorf("%s was put %d times", d, puts[d])
				}
			}
			for name, img := range from.images {
				repo, tag, _ := strings.Cut(name, ":")
				for d := range blobsOf(img) {
					blob := quaytest.Blob{Repository: repo, Digest: d}
					if n := done.Puts[blob] + done.Mounts[blob]; n != 1 {
						t.Errorf("%s was put or mounted %d times", blob, n)
					}
				}
				to.has(t, repo, tag, img.Desc.Digest)
			}

			from.Reset()
			to.Reset()
			if again := processed(t, args...); !strings.Contains(again.stderr, "(40 up to date)") {
				t.Errorf("the second run says\n%s", again.stderr)
			}
			from.movedNothing(t)
			to.movedNothing(t)
		})
	}
}

// fetchedOnce looks whether each blob of q was read to its end exactly once.
func (q *quay) fetchedOnce(t *testing.T) {
	t.Helper()
	fetched := q.fetched()
	for d := range q.blobs() {
		if fetched[d] != 1 {
			t.Errorf("%s was fetched %d times", d, fetched[d])
		}
	}
}

// movedNothing looks whether no blob went in or out.
func (q *quay) movedNothing(t *testing.T) {
	t.Helper()
	if done := q.Transfers(); len(done.Gets)+len(done.Puts)+len(done.Mounts) > 0 {
		t.Errorf("blobs moved: %v", done)
	}
}
