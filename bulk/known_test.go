package bulk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A pair is a Quay that images come from and one that they go to.
type pair struct {
	from, to *quaytest.Server
	host     string // of to
	src      quayImages
	env      transport.Options
}

const twins = 6 // images of a pair

// allTwins are they: two layers that all share, and one of its own.
var allTwins = sync.OnceValue(func() (all []imagetest.Image) {
	small, large := imagetest.Random(900, 100_000), imagetest.Random(901, 1_200_000)
	for i := range twins {
		all = append(all, imagetest.New(imagetest.Linux, map[string]string{"n": fmt.Sprint(i)}, small, large, imagetest.Random(uint64(910+i), 80_000)))
	}
	return all
})

func twin(i int) imagetest.Image { return allTwins()[i] }

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{from: quaytest.New(quaytest.Options{}), to: quaytest.New(quaytest.Options{})}
	p.src = quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	fromRun, toRun := p.from.Start(), p.to.Start()
	t.Cleanup(fromRun.Close)
	t.Cleanup(toRun.Close)
	p.host = toRun.Host
	p.to.CreateUser("u", "p")
	p.to.CreateOrg("org", "u")
	p.env = transport.Options{Side: "destination", Credentials: transport.Fixed(p.host, "u", "p")}
	for i := range twins {
		repo := fmt.Sprintf("org/app-%d", i)
		if err := p.from.Push(t.Context(), repo, "v1", twin(i)); err != nil {
			t.Fatal(err)
		}
		p.src.items = append(p.src.items, oci.Item{Ref: oci.Ref{Registry: fromRun.Host, Repository: repo, Tag: "v1"}, Desc: oci.Descriptor{Digest: twin(i).Desc.Digest}})
	}
	return p
}

// run copies all images, to names that begin with prefix, and counts what was
// fetched by digest, configs apart.
func (p *pair) run(t *testing.T, prefix, cache string) (r *oci.Report, fetched map[oci.Digest]int, warned []string) {
	t.Helper()
	p.from.Reset()
	p.to.Reset()
	r = mustCopy(t, p.src, openTarget(t, "registry://"+p.host, sideEnv(t, p.env)), bulk.Options{
		Verify: pipeline.VerifyDefault, BlobCache: cache, Warn: func(s string) { warned = append(warned, s) },
		Name: func(item oci.Item) (oci.Ref, error) {
			return oci.Ref{Registry: p.host, Repository: "org/" + prefix + strings.TrimPrefix(item.Ref.Repository, "org/"), Tag: "v1"}, nil
		},
	})
	if r.Totals.Copied+r.Totals.Skipped != twins {
		t.Errorf("got %+v", r.Totals)
	}
	fetched = map[oci.Digest]int{}
	for blob, n := range p.from.Transfers().Gets {
		fetched[blob.Digest] += n
	}
	for i := range twins {
		m, err := oci.ParseManifest(twin(i).Desc.MediaType, twin(i).Raw)
		if err != nil {
			t.Fatal(err)
		}
		delete(fetched, m.Config.Digest)
	}
	return r, fetched, warned
}

// A run into new repositories, in a process of its own, takes over what an earlier
// one brought into others; configs, which are small, are sent.
func TestBlobsOfEarlierRunsAreMounted(t *testing.T) {
	p, cache := newPair(t), filepath.Join(t.TempDir(), "blobs")
	if _, fetched, _ := p.run(t, "", cache); len(fetched) != 2+twins {
		t.Errorf("the first run fetched %d layers, want %d", len(fetched), 2+twins)
	}
	r, fetched, warned := p.run(t, "again/", cache)
	if len(fetched) != 0 || len(warned) != 0 {
		t.Errorf("the second run fetched %v, and warned %q", fetched, warned)
	}
	if n := p.to.Counts(); n["v2.upload.put"] != twins || n["v2.mount"] != 4*twins || n["v2.upload.start"]+n["v2.blob.head"] != 0 {
		t.Errorf("the destination was asked %v, want %d mounts and as many configs put as there are images, %d", n, 4*twins, twins)
	}
	mounted := 0
	for _, i := range r.Images {
		mounted += i.BlobsMounted
	}
	if mounted != 3*twins {
		t.Errorf("%d blobs were mounted, want all %d layers", mounted, 3*twins)
	}
	if _, fetched, _ := p.run(t, "without/", ""); len(fetched) != 2+twins {
		t.Errorf("without the file %d layers were fetched, want %d", len(fetched), 2+twins)
	}
}

// Entries that are wrong cost no request more than none, and what was found comes
// before them.
func TestWhatEarlierRunsSayIsNotTrusted(t *testing.T) {
	p, cache := newPair(t), filepath.Join(t.TempDir(), "blobs")
	p.run(t, "", cache)
	for i := range twins {
		if err := p.to.DeleteRepository(fmt.Sprintf("org/app-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	_, fetched, warned := p.run(t, "again/", cache)
	if len(fetched) != 2+twins || len(warned) != 0 {
		t.Errorf("fetched %v, and warned %q", fetched, warned)
	}
	// For each config and layer a mount, which begins the upload of what isn't
	// there; for the one layer over a MiB, "is it there" besides.
	if n := p.to.Counts(); n["v2.mount"] != 4*twins || n["v2.upload.start"]+n["v2.upload.delete"] != 0 || n["v2.blob.head"] > 1 {
		t.Errorf("the destination was asked %v", n)
	}
	raw, err := os.ReadFile(cache)
	if err != nil || strings.Contains(string(raw), p.host+" org/app-") || strings.Count(string(raw), p.host+" org/again/app-") != 2+twins {
		t.Errorf("the file says\n%s%v", raw, err)
	}
}

func TestBlobCacheThatIsNone(t *testing.T) {
	p, cache := newPair(t), filepath.Join(t.TempDir(), "blobs")
	if err := os.WriteFile(cache, []byte("my diary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, warned := p.run(t, "", cache)
	if len(warned) != 1 || !strings.Contains(warned[0], cache) || !strings.Contains(warned[0], "goes on without it") {
		t.Errorf("got %q, want one warning", warned)
	}
	if raw, err := os.ReadFile(cache); err != nil || string(raw) != "my diary\n" {
		t.Errorf("the file is %q now, %v", raw, err)
	}
}

// A dry run, and a place that doesn't mount, leave no file.
func TestBlobCacheOfOtherRuns(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "blobs")
	src, near := organisation(t, 3), newFar(t)
	mustCopy(t, src, near.target(t), bulk.Options{Name: near.to, BlobCache: cache, DryRun: true})
	mustCopy(t, src, layout(t), bulk.Options{BlobCache: cache})
	if _, err := os.Stat(cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no file", err)
	}
	if files, err := os.ReadDir(filepath.Dir(cache)); err != nil || slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), "blobs") }) {
		t.Errorf("there are %v, %v", files, err)
	}
}
