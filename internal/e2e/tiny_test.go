package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// crowd are images of a base that all share and something of their own, in a
// registry and in a file of references.
type crowd struct {
	images map[string]imagetest.Image // by "repository:tag"
	list   string
}

// fillCrowd puts n images into the registry from, in repositories of their own.
func fillCrowd(t *testing.T, from *httptest.Server, n, size int) crowd {
	t.Helper()
	c := crowd{images: map[string]imagetest.Image{}}
	base := imagetest.Random(1, size)
	var list strings.Builder
	for i := range n {
		img := imagetest.New(imagetest.Linux, map[string]string{"app": strconv.Itoa(i)}, base, imagetest.Random(uint64(100+i), size))
		repo := fmt.Sprintf("team/app%03d", i)
		if err := img.Push(t.Context(), from.URL, repo, "v1", ""); err != nil {
			t.Fatal(err)
		}
		c.images[repo+":v1"] = img
		fmt.Fprintf(&list, "%s:v1\n", repo)
	}
	c.list = filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(c.list, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// from is the URI of the images as they are read at host.
func (c crowd) from(host string) string { return "list://" + c.list + "?registry=" + host }

func (c crowd) blobs() map[oci.Digest][]byte {
	all := make([]imagetest.Image, 0, len(c.images))
	for _, img := range c.images {
		all = append(all, img)
	}
	return blobsOf(all...)
}

// TestRequestsOfATinyImage counts what an image of three blobs costs, one of which
// all share, tokens and verification included: requests to both registries, and
// connections.
func TestRequestsOfATinyImage(t *testing.T) {
	const images, atOnce = 40, 4
	tests := []struct {
		name       string
		most       int
		cold, warm int // requests for an image
		first      int // for the run: that tokens hold one repository is learnt by refusals
	}{
		{"tokens of several repositories", 0, 12, 3, 0},
		{"tokens of one repository", 1, 14, 4, 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := &bearer{most: tt.most}, &bearer{most: tt.most}
			from, to := startBearer(t, source), startBearer(t, dest)
			c := fillCrowd(t, source.inner, images, 2000)
			args := []string{"-J", strconv.Itoa(atOnce), "-j", strconv.Itoa(atOnce), c.from(from), "registry://" + to}
			count := func(what string, most int) {
				t.Helper()
				a, asked, aConns := source.take()
				b, wrote, bConns := dest.take()
				t.Logf("%s: %.2f requests an image, %d and %d connections\n%v\n%v", what, float64(asked+wrote)/images, aConns, bConns, a, b)
				if asked+wrote > most*images+tt.first {
					t.Errorf("%s: %d requests for %d images, %d an image and %d besides may be", what, asked+wrote, images, most, tt.first)
				}
				if aConns > 2*atOnce || bConns > 2*atOnce {
					t.Errorf("%s: %d and %d connections, %d may be", what, aConns, bConns, 2*atOnce)
				}
			}
			processed(t, args...)
			count("cold", tt.cold)
			processed(t, args...)
			count("warm", tt.warm)
		})
	}
}

// TestEachBlobCrossesOnce counts blobs: each distinct one is read at the source
// once, sent once, and mounted by the rest.
func TestEachBlobCrossesOnce(t *testing.T) {
	const images = 40
	source, dest := &bearer{}, &bearer{}
	from, to := startBearer(t, source), startBearer(t, dest)
	c := fillCrowd(t, source.inner, images, 30_000)
	processed(t, c.from(from), "registry://"+to)
	distinct := len(c.blobs())
	a, _, _ := source.take()
	b, _, _ := dest.take()
	if n := a["GET blobs"]; n != distinct {
		t.Errorf("%d blobs were read at the source, %d there are", n, distinct)
	}
	if n := b["PUT uploads"] + b["PATCH uploads"]; n != distinct {
		t.Errorf("%d blobs were sent, %d there are", n, distinct)
	}
	if n := b["GET blobs"] + b["HEAD blobs"]; n != 0 {
		t.Errorf("%d requests for blobs at the destination", n)
	}
}

// TestRefusedMountsReadOnce copies to a registry that refuses to mount: the source
// gives each distinct blob once all the same.
func TestRefusedMountsReadOnce(t *testing.T) {
	const images = 40
	source, dest := &bearer{}, &bearer{mountless: true}
	from, to := startBearer(t, source), startBearer(t, dest)
	c := fillCrowd(t, source.inner, images, 30_000)
	file := filepath.Join(t.TempDir(), "report")
	processed(t, "--report", file, "--verify-full", c.from(from), "registry://"+to)
	distinct := len(c.blobs())
	a, _, _ := source.take()
	if n := a["GET blobs"]; n != distinct {
		t.Errorf("%d blobs were read at the source, %d there are", n, distinct)
	}
	b, _, _ := dest.take()
	if n := b["PUT uploads"] + b["PATCH uploads"]; n != 3*images {
		t.Errorf("%d blobs were sent, want %d", n, 3*images)
	}
	r := report(t, file)
	t.Logf("%v", r.Transfers)
	if r.Totals.Copied != images || r.Totals.Verified != images {
		t.Errorf("the report says %+v", r.Totals)
	}
}
