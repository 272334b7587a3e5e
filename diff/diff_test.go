package diff_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/diff"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// place is a registry on loopback and a listing of images in it.
type place struct {
	*httptest.Server
	host   string
	items  []oci.Item
	single bool
	blind  bool // the listing knows no digests
	err    error

	mu    sync.Mutex
	reads map[string]int // of blobs
	gets  int            // of manifests
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{reads: map[string]int{}}
	next := ociserver.New(ocimem.New(), nil)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if _, d, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
			p.reads[d]++
		}
		if strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodGet {
			p.gets++
		}
		p.mu.Unlock()
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	p.host = strings.TrimPrefix(p.URL, "http://")
	return p
}

func (p *place) Bulk() bool { return !p.single }
func (p *place) Close()     { p.Server.Close() }

// images is p as a source.
type images struct{ *place }

func (m images) Close() error { return nil }

func (m images) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	return registry.Open(item.Ref, backend.Env{HTTP: m.Client(), PlainHTTP: true})
}

func (m images) Discover(context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for _, item := range m.items {
			if m.blind {
				item.Desc = oci.Descriptor{}
			}
			if !yield(item, nil) {
				return
			}
		}
		if m.err != nil {
			yield(oci.Item{}, m.err)
		}
	}
}

func (p *place) add(t *testing.T, repo, tag string, img imagetest.Image) *place {
	t.Helper()
	if err := img.Push(t.Context(), p.URL, repo, tag, ""); err != nil {
		t.Fatal(err)
	}
	p.items = append(p.items, oci.Item{Ref: oci.Ref{Registry: p.host, Repository: repo, Tag: tag}, Desc: oci.Descriptor{Digest: img.Desc.Digest}, Bytes: -1})
	return p
}

// layersRead counts reads of each of layers.
func (p *place) layersRead(layers ...imagetest.Layer) (n []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range layers {
		n = append(n, p.reads[string(l.Desc.Digest)])
	}
	return n
}

func compare(t *testing.T, a, b *place, platforms ...oci.Platform) ([]diff.Image, diff.Summary) {
	t.Helper()
	var all []diff.Image
	var sum diff.Summary
	for img, err := range diff.Images(t.Context(), diff.Place{Images: images{a}, Platforms: platforms}, diff.Place{Images: images{b}, Platforms: platforms}, diff.Options{}, &sum) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, img)
	}
	return all, sum
}

// one compares two images of layers, and gives what differs of files: + - ~ PATH WHAT.
func one(t *testing.T, a, b []imagetest.Layer) (_ []string, _ diff.PlatformChange, x, y *place) {
	t.Helper()
	x, y = newPlace(t), newPlace(t)
	x.single, y.single = true, true
	x.add(t, "org/app", "1", imagetest.New(imagetest.Linux, nil, a...))
	y.add(t, "org/other", "2", imagetest.New(imagetest.Linux, map[string]string{"b": "side"}, b...))
	all, _ := compare(t, x, y)
	if len(all) != 1 || all[0].Status != diff.Changed || len(all[0].Platforms) != 1 {
		t.Fatalf("got %+v, want one change", all)
	}
	p := all[0].Platforms[0]
	var got []string
	for _, f := range p.Files {
		sign := map[diff.Status]string{diff.Added: "+", diff.Removed: "-", diff.Changed: "~"}[f.Change]
		got = append(got, strings.TrimSpace(sign+" "+f.Path+" "+strings.Join(f.What, ",")))
	}
	return got, p, x, y
}

func TestFiles(t *testing.T) {
	file, dir := imagetest.File, imagetest.Dir
	mode := func(name, body string, mode int64, uid int) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Name: name, Mode: mode, Uid: uid}, Body: body}
	}
	base := imagetest.Entries(dir("etc/"), file("etc/a", "1"), file("etc/b", "1"), dir("usr/"), file("usr/x", "1"), imagetest.Symlink("l", "etc/a"))
	type layer = []imagetest.Entry
	tests := []struct {
		what string
		a, b layer
		want []string
	}{
		{"added and removed", layer{file("new/a", "")}, layer{file("new/b", "")}, []string{"- new/a", "+ new/b"}},
		{"changed", layer{file("f", "1")}, layer{file("f", "22")}, []string{"~ f size,content"}},
		{"same size", layer{file("f", "1")}, layer{file("f", "2")}, []string{"~ f content"}},
		{"mode and owner", layer{mode("f", "1", 0o644, 0)}, layer{mode("./f", "1", 0o4755, 7)}, []string{"~ f mode,owner"}},
		{"over the base", nil, layer{file("etc/a", "2")}, []string{"~ etc/a content"}},
		{"the same over the base", layer{file("q", "")}, layer{file("q", ""), file("etc/a", "1")}, nil},
		{"whiteout", nil, layer{file("etc/.wh.a", "")}, []string{"- etc/a"}},
		{"whiteout of a directory", nil, layer{file(".wh.etc", "")}, []string{"- etc", "- etc/a", "- etc/b"}},
		{"opaque", nil, layer{dir("etc"), file("etc/.wh..wh..opq", ""), file("etc/b", "1"), file("etc/c", "")}, []string{"- etc/a", "+ etc/c"}},
		{"gone on both sides", layer{file("etc/.wh.a", "")}, layer{file(".wh.etc", ""), dir("etc"), file("etc/b", "1")}, nil},
		{"replaced directory", nil, layer{imagetest.Symlink("usr", "etc")}, []string{"~ usr type,mode,link", "- usr/x"}},
		{"link elsewhere", nil, layer{imagetest.Symlink("l", "etc/b")}, []string{"~ l link"}},
		{"a hard link is a copy", layer{file("f", "1")}, layer{imagetest.Hardlink("f", "etc/a")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			got, _, x, y := one(t, []imagetest.Layer{base, imagetest.Entries(tt.a...)}, []imagetest.Layer{base, imagetest.Entries(tt.b...)})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if n := append(x.layersRead(base), y.layersRead(base)...); n[0]+n[1] > 1 {
				t.Errorf("the base was read %d times", n)
			}
			// The same without a common base.
			other := imagetest.Blob("application/vnd.oci.image.layer.v1.tar", imagetest.Tar(file("pad", "")))
			got, _, _, _ = one(t, []imagetest.Layer{base, imagetest.Entries(tt.a...), other}, []imagetest.Layer{other, base, imagetest.Entries(tt.b...)})
			if !slices.Equal(got, tt.want) {
				t.Errorf("whole: got %q, want %q", got, tt.want)
			}
		})
	}
}

// What both sides replace needs no look at what was there.
func TestBaseIsLeftUnread(t *testing.T) {
	base := imagetest.Random(1, 10_000)
	a, b := imagetest.Files(map[string]string{"app": "one", "conf": "x"}), imagetest.Files(map[string]string{"app": "two", "conf": "x"})
	got, p, x, y := one(t, []imagetest.Layer{base, a}, []imagetest.Layer{base, b})
	if want := []string{"~ app content"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if x.layersRead(base)[0]+y.layersRead(base)[0] != 0 {
		t.Error("the base was read")
	}
	if len(p.Layers) != 2 || p.Layers[0].Change != "removed" || p.Layers[0].Index != 1 || p.Layers[0].DiffID != a.DiffID || p.Layers[1].Change != "added" || p.Layers[1].Digest != b.Desc.Digest {
		t.Errorf("layers %+v", p.Layers)
	}
	if len(p.Labels) != 1 || p.Labels[0] != (diff.Setting{Key: "label", Name: "b", B: "side"}) {
		t.Errorf("labels %+v", p.Labels)
	}
}

func TestEqualLayersAreNotRead(t *testing.T) {
	raw := imagetest.Tar(imagetest.File("a", "1"))
	zipped, plain := imagetest.Gzip(raw), imagetest.Blob("application/vnd.oci.image.layer.v1.tar", raw)
	got, p, x, y := one(t, []imagetest.Layer{zipped}, []imagetest.Layer{plain})
	if len(got) != 0 || len(p.Layers) != 1 || p.Layers[0].Change != "recompressed" {
		t.Errorf("got %q and %+v, want one layer compressed anew", got, p.Layers)
	}
	if n := x.layersRead(zipped)[0] + y.layersRead(plain)[0]; n != 0 {
		t.Errorf("%d reads", n)
	}
}

func TestSets(t *testing.T) {
	shared := imagetest.Random(1, 5000)
	img := func(text string) imagetest.Image {
		return imagetest.New(imagetest.Linux, nil, shared, imagetest.Files(map[string]string{"v" + text: text}))
	}
	a, b := newPlace(t), newPlace(t)
	for i := range 20 {
		a.add(t, fmt.Sprintf("org/app-%02d", i), "1", img("old"+fmt.Sprint(i)))
		switch {
		case i == 3: // removed
		case i < 10:
			b.add(t, fmt.Sprintf("org/app-%02d", i), "1", img("new"+fmt.Sprint(i)))
		default:
			b.add(t, fmt.Sprintf("org/app-%02d", i), "1", img("old"+fmt.Sprint(i)))
		}
	}
	b.add(t, "org/app-00", "2", img("x"))
	all, sum := compare(t, a, b)
	var names []string
	for _, i := range all {
		names = append(names, string(i.Status)+" "+i.Image)
		if i.Status == diff.Changed && (len(i.Platforms) != 1 || len(i.Platforms[0].Files) != 2) {
			t.Errorf("%s: %+v", i.Image, i.Platforms)
		}
	}
	want := []string{"changed org/app-00:1", "added org/app-00:2", "changed org/app-01:1", "changed org/app-02:1", "removed org/app-03:1"}
	for i := 4; i < 10; i++ {
		want = append(want, fmt.Sprintf("changed org/app-%02d:1", i))
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if want := (diff.Summary{A: 20, B: 20, Equal: 10, Added: 1, Removed: 1, Changed: 9, Layers: 19}); sum != want {
		t.Errorf("got %+v, want %+v", sum, want)
	}
	if n := a.layersRead(shared)[0] + b.layersRead(shared)[0]; n != 1 {
		t.Errorf("the shared layer was read %d times", n)
	}
	if a.gets != 9 || b.gets != 9 {
		t.Errorf("%d and %d manifests read, want those of the 9 that differ", a.gets, b.gets)
	}
}

func TestEqualDigestsEndAtOnce(t *testing.T) {
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100))
	a, b := newPlace(t).add(t, "org/a", "1", img), newPlace(t).add(t, "org/a", "1", img)
	a.blind = true
	if all, sum := compare(t, a, b); len(all) != 0 || sum.Equal != 1 || a.gets+b.gets+len(a.reads)+len(b.reads) != 0 {
		t.Errorf("got %+v, %+v after %d and %d manifests", all, sum, a.gets, b.gets)
	}
}

// Two sets whose tags differ altogether are paired by repository.
func TestReleases(t *testing.T) {
	a, b := newPlace(t), newPlace(t)
	for _, repo := range []string{"org/x", "org/y"} {
		a.add(t, repo, "2025.1", imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100)))
		b.add(t, repo, "2025.2", imagetest.New(imagetest.Linux, nil, imagetest.Random(2, 100)))
	}
	all, _ := compare(t, a, b)
	if len(all) != 2 || all[0].Status != diff.Changed || all[0].A.Reference != a.host+"/org/x:2025.1" || all[0].B.Reference != b.host+"/org/x:2025.2" {
		t.Errorf("got %+v, want two changes", all)
	}
	b.add(t, "org/x", "2025.3", imagetest.New(imagetest.Linux, nil))
	if all, sum := compare(t, a, b); sum.Changed != 0 || sum.Added != 3 || sum.Removed != 2 {
		t.Errorf("with two tags of a repository: got %+v, %+v", all, sum)
	}
}

func TestPlatforms(t *testing.T) {
	arm := oci.Platform{OS: "linux", Architecture: "arm64"}
	riscv := oci.Platform{OS: "linux", Architecture: "riscv64"}
	l := func(s string) imagetest.Layer { return imagetest.Files(map[string]string{"f": s}) }
	amd := imagetest.New(imagetest.Linux, nil, l("amd"))
	a := newPlace(t).add(t, "org/a", "1", imagetest.Index(amd, imagetest.New(arm, nil, l("arm")), imagetest.New(riscv, nil, l("riscv"))))
	b := newPlace(t).add(t, "org/a", "1", imagetest.Index(imagetest.New(arm, nil, l("arm2")), amd))
	all, _ := compare(t, a, b)
	var got []string
	for _, p := range all[0].Platforms {
		got = append(got, fmt.Sprint(p.Status, " ", p.Platform, " ", len(p.Files)))
	}
	if want := []string{"changed linux/arm64 1", "removed linux/riscv64 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if all, sum := compare(t, a, b, imagetest.Linux); len(all) != 0 || sum.Equal != 1 {
		t.Errorf("the platform that is the same: got %+v", all)
	}
}

func TestTrouble(t *testing.T) {
	good := imagetest.Files(map[string]string{"f": "1"})
	raw := imagetest.Tar(imagetest.File("f", "2"), imagetest.File("g", ""))
	cut := imagetest.Gzip(raw[:1100])
	liar := imagetest.Files(map[string]string{"f": "3"})
	liar.DiffID = good.Desc.Digest
	for what, bad := range map[string]imagetest.Layer{"cut off": cut, "not its diffID": liar} {
		a := newPlace(t).add(t, "org/a", "1", imagetest.New(imagetest.Linux, nil, good)).add(t, "org/b", "1", imagetest.New(imagetest.Linux, nil, good))
		b := newPlace(t).add(t, "org/a", "1", imagetest.New(imagetest.Linux, nil, bad)).add(t, "org/b", "1", imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"f": "4"})))
		all, sum := compare(t, a, b)
		if sum.Failed != 1 || sum.Changed != 1 || all[0].Status != diff.Failed || !strings.Contains(all[0].Platforms[0].Error, string(bad.Desc.Digest)) || len(all[1].Platforms[0].Files) != 1 {
			t.Errorf("%s: got %+v, %+v", what, all, sum)
		}
	}
}

func TestRefusals(t *testing.T) {
	img := imagetest.New(imagetest.Linux, nil)
	first := func(a, b *place) error {
		var sum diff.Summary
		for _, err := range diff.Images(t.Context(), diff.Place{Images: images{a}}, diff.Place{Images: images{b}}, diff.Options{}, &sum) {
			return err
		}
		return nil
	}
	many, single := newPlace(t).add(t, "org/a", "1", img), newPlace(t).add(t, "org/a", "1", img)
	single.single = true
	if err := first(many, single); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "B is one image") {
		t.Errorf("one against many: %v", err)
	}
	twice := newPlace(t).add(t, "org/a", "1", img)
	twice.items = append(twice.items, oci.Item{Ref: oci.Ref{Registry: "elsewhere", Repository: "org/a", Tag: "1"}})
	if err := first(many, twice); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("one name twice: %v", err)
	}
	broken := newPlace(t)
	broken.err = oci.ErrIncomplete
	if err := first(many, broken); !errors.Is(err, oci.ErrIncomplete) {
		t.Errorf("a listing that broke off: %v", err)
	}
}
