package search_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/search"
)

// place holds the blobs of images and counts how often each is read.
type place struct {
	mu    sync.Mutex
	blobs map[oci.Digest][]byte
	reads map[oci.Digest]int
}

func (p *place) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.ErrNotFound
}

func (p *place) Head(context.Context, string) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.ErrNotFound
}

func (p *place) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads[d.Digest]++
	raw, ok := p.blobs[d.Digest]
	if !ok {
		return nil, oci.ErrNotFound
	}
	return oci.Verify(io.NopCloser(bytes.NewReader(raw)), d), nil
}

func (p *place) add(t *testing.T, img imagetest.Image) filetree.Image {
	t.Helper()
	if p.blobs == nil {
		p.blobs, p.reads = map[oci.Digest][]byte{}, map[oci.Digest]int{}
	}
	for d, b := range img.Blobs {
		p.blobs[d] = b
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	return filetree.Image{Manifest: img.Desc, Config: m.Config, Layers: m.Layers}
}

// find searches an image of layers, and gives "N PATH" for each match in layer
// N, with a ! behind what is hidden.
func find(t *testing.T, q search.Query, layers ...imagetest.Layer) []string {
	t.Helper()
	p := &place{}
	img := p.add(t, imagetest.New(imagetest.Linux, nil, layers...))
	r := search.New(q, search.Options{}).Image(t.Context(), p, "x", img)
	if len(r.Failed) > 0 {
		t.Fatal(r.Failed)
	}
	return list(r)
}

func list(r search.Result) (got []string) {
	for l := range r.Found() {
		n := slices.IndexFunc(r.Image.Layers, func(d oci.Descriptor) bool { return d.Digest == l.Digest })
		for m, hidden := range l.Matches() {
			s := fmt.Sprintf("%d %s", n, m.Path)
			if hidden {
				s += "!"
			}
			got = append(got, s)
		}
	}
	return got
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func glob(t *testing.T, pattern string) func(string) bool {
	t.Helper()
	return matcher(t, pattern, false)
}

func regex(t *testing.T, pattern string) func(string) bool {
	t.Helper()
	return matcher(t, pattern, true)
}

func matcher(t *testing.T, pattern string, regex bool) func(string) bool {
	t.Helper()
	m, err := filter.NewMatcher(pattern, regex)
	if err != nil {
		t.Fatal(err)
	}
	return m.Match
}

func TestNames(t *testing.T) {
	l := imagetest.Entries(imagetest.Dir("./etc/"), imagetest.File("./etc/motd", "hi"), imagetest.File("usr/etc", "x"), imagetest.File("a\xffb", ""), imagetest.Symlink("link", "etc/motd"))
	tests := []struct {
		what string
		name func(string) bool
		want []string
	}{
		{"base name", glob(t, "etc"), []string{"0 ./etc", "0 usr/etc"}},
		{"* crosses /", glob(t, "*motd"), []string{"0 ./etc/motd"}},
		{"whole name", glob(t, "./etc/*"), []string{"0 ./etc/motd"}},
		{"class", glob(t, "[!a-k]ink"), []string{"0 link"}},
		{"no UTF-8", glob(t, "a?b"), []string{"0 a\xffb"}},
		{"regex is not anchored", regex(t, `tc/m`), []string{"0 ./etc/motd"}},
		{"regex sees the whole name", regex(t, `^usr`), []string{"0 usr/etc"}},
		{"all", nil, []string{"0 ./etc", "0 ./etc/motd", "0 usr/etc", "0 a\xffb", "0 link"}},
	}
	for _, tt := range tests {
		same(t, tt.what, find(t, search.Query{Name: tt.name}, l), tt.want...)
	}
}

func TestHidden(t *testing.T) {
	base := imagetest.Entries(imagetest.Dir("a/"), imagetest.File("a/x", "1"), imagetest.File("a/y", "1"), imagetest.Dir("a/d"), imagetest.File("a/d/z", "1"), imagetest.File("ab", "1"))
	tests := []struct {
		what string
		top  []imagetest.Entry
		want []string
	}{
		{"nothing", []imagetest.Entry{imagetest.File("b", "")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d", "0 a/d/z", "0 ab", "1 b"}},
		{"replaced", []imagetest.Entry{imagetest.File("./a/x", "2")}, []string{"0 a", "0 a/x!", "0 a/y", "0 a/d", "0 a/d/z", "0 ab", "1 ./a/x"}},
		{"whiteout", []imagetest.Entry{imagetest.File("a/.wh.x", "")}, []string{"0 a", "0 a/x!", "0 a/y", "0 a/d", "0 a/d/z", "0 ab", "1 a/.wh.x!"}},
		{"whiteout of a directory", []imagetest.Entry{imagetest.File(".wh.a", "")}, []string{"0 a!", "0 a/x!", "0 a/y!", "0 a/d!", "0 a/d/z!", "0 ab", "1 .wh.a!"}},
		{"directory made anew", []imagetest.Entry{imagetest.File(".wh.a", ""), imagetest.File("a/x", "2")}, []string{"0 a!", "0 a/x!", "0 a/y!", "0 a/d!", "0 a/d/z!", "0 ab", "1 .wh.a!", "1 a/x"}},
		{"opaque", []imagetest.Entry{imagetest.Dir("a"), imagetest.File("a/.wh..wh..opq", ""), imagetest.File("a/new", "")}, []string{"0 a!", "0 a/x!", "0 a/y!", "0 a/d!", "0 a/d/z!", "0 ab", "1 a", "1 a/.wh..wh..opq!", "1 a/new"}},
		{"opaque without the directory", []imagetest.Entry{imagetest.File("a/d/.wh..wh..opq", "")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d", "0 a/d/z!", "0 ab", "1 a/d/.wh..wh..opq!"}},
		{"opaque root", []imagetest.Entry{imagetest.File(".wh..wh..opq", "")}, []string{"0 a!", "0 a/x!", "0 a/y!", "0 a/d!", "0 a/d/z!", "0 ab!", "1 .wh..wh..opq!"}},
		{"directory replaced by a file", []imagetest.Entry{imagetest.File("a", "")}, []string{"0 a!", "0 a/x!", "0 a/y!", "0 a/d!", "0 a/d/z!", "0 ab", "1 a"}},
		{"directory replaced by a link", []imagetest.Entry{imagetest.Symlink("a/d", "/etc")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d!", "0 a/d/z!", "0 ab", "1 a/d"}},
		{"directory over directory", []imagetest.Entry{imagetest.Dir("a/d/")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d!", "0 a/d/z", "0 ab", "1 a/d"}},
		{"twice in one layer", []imagetest.Entry{imagetest.File("c", "1"), imagetest.File("./c", "2")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d", "0 a/d/z", "0 ab", "1 c!", "1 ./c"}},
		{"a driver's own", []imagetest.Entry{imagetest.File("a/.wh..wh.plnk", "")}, []string{"0 a", "0 a/x", "0 a/y", "0 a/d", "0 a/d/z", "0 ab", "1 a/.wh..wh.plnk!"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			top := imagetest.Entries(tt.top...)
			same(t, "details", find(t, search.Query{Details: true}, base, top), tt.want...)
			visible := slices.DeleteFunc(slices.Clone(tt.want), func(s string) bool { return strings.HasSuffix(s, "!") })
			same(t, "visible", find(t, search.Query{Visible: true}, base, top), visible...)
		})
	}
	// What hides is no match itself.
	gone := imagetest.Entries(imagetest.File("a/.wh.x", ""))
	same(t, "by name", find(t, search.Query{Name: glob(t, "x"), Visible: true}, base, gone))
}

func TestContent(t *testing.T) {
	const buffer = 64 << 10
	for _, at := range []int{0, 1, buffer - 9, buffer - 3, buffer - 1, buffer, 3*buffer - 5} {
		body := strings.Repeat("x", at) + "needle\x00\xff AKIA0123456789ABCDEF"
		l := imagetest.Entries(imagetest.File("f", body), imagetest.File("g", strings.Repeat("nee", at)), imagetest.Hardlink("h", "f"))
		for _, re := range []string{`needle`, `ne+dle`, `(?i)NEEDLE`, `\x00`, `AKIA[0-9A-Z]{16}`, `(?s)needle.*F$`, `AKIA[0-9A-Z]{16}\z`, `\bAKIA`, strings.Repeat("x", min(at, 900)) + "needle"} {
			same(t, fmt.Sprintf("%.20s at %d", re, at), find(t, search.Query{Content: regexp.MustCompile(re)}, l), "0 f")
		}
		for _, re := range []string{`needles`, `^eedle`, `AKIA[0-9A-Z]{17}`, `\Ax{5}needle`} {
			same(t, fmt.Sprintf("%.20s at %d", re, at), find(t, search.Query{Content: regexp.MustCompile(re)}, l))
		}
	}
}

// A match may be as long as the file: there is no window that it must fit in.
func TestContentLongMatch(t *testing.T) {
	l := imagetest.Entries(imagetest.File("f", "BEGIN"+strings.Repeat("line\n", 100_000)+"END"))
	same(t, "long", find(t, search.Query{Content: regexp.MustCompile(`(?s)BEGIN.*END`)}, l), "0 f")
}

func TestSetIDAndDigest(t *testing.T) {
	mode := func(name string, m int64, flag byte) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Name: name, Mode: m, Typeflag: flag}, Body: ""}
	}
	l := imagetest.Entries(mode("su", 0o4755, tar.TypeReg), mode("wall", 0o2755, tar.TypeReg), mode("tmp", 0o1777, tar.TypeDir), mode("mail", 0o2775, tar.TypeDir), mode("plain", 0o755, tar.TypeReg),
		imagetest.File("data", "text"), imagetest.File("copy", "text"))
	same(t, "setuid", find(t, search.Query{SetID: true}, l), "0 su", "0 wall")
	same(t, "setuid by name", find(t, search.Query{SetID: true, Name: glob(t, "su")}, l), "0 su")
	hex, err := search.Digest(fmt.Sprintf("sha256:%X", sha256.Sum256([]byte("text"))))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "digest", find(t, search.Query{SHA256: hex}, l), "0 data", "0 copy")
	same(t, "digest and content", find(t, search.Query{SHA256: hex, Content: regexp.MustCompile("^t"), Name: glob(t, "c*")}, l), "0 copy")
	same(t, "digest with other content", find(t, search.Query{SHA256: hex, Content: regexp.MustCompile("x$")}, l))
	for _, bad := range []string{"", "abc", hex + "00", strings.Repeat("g", 64)} {
		if _, err := search.Digest(bad); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q: got %v, want a usage error", bad, err)
		}
	}
}

func TestOneBadLayer(t *testing.T) {
	good, top := imagetest.Entries(imagetest.File("a", "")), imagetest.Entries(imagetest.File("c", ""))
	bad := imagetest.Gzip(imagetest.Tar(imagetest.File("b", strings.Repeat("x", 1000)))[:1024]) // its digest is right
	p := &place{}
	img := p.add(t, imagetest.New(imagetest.Linux, nil, good, bad, top))
	s := search.New(search.Query{}, search.Options{})
	for range 3 {
		r := s.Image(t.Context(), p, "host/app:1", img)
		same(t, "the rest", list(r), "0 a", "2 c")
		if len(r.Failed) != 1 || !errors.Is(r.Failed[0], oci.ErrInvalid) {
			t.Fatalf("got %v, want one invalid layer", r.Failed)
		}
		for _, part := range []string{"host/app:1", string(bad.Desc.Digest)} {
			if !strings.Contains(r.Failed[0].Error(), part) {
				t.Errorf("%q doesn't name %s", r.Failed[0], part)
			}
		}
	}
	if n := p.reads[bad.Desc.Digest]; n != 1 {
		t.Errorf("the bad layer was read %d times", n)
	}
}

func TestBounds(t *testing.T) {
	var many []imagetest.Entry
	for i := range 1000 {
		many = append(many, imagetest.File(fmt.Sprintf("dir/%04d", i), ""))
	}
	l, other := imagetest.Entries(many...), imagetest.Entries(imagetest.File("a", ""))
	p := &place{}
	img := p.add(t, imagetest.New(imagetest.Linux, nil, l, other))
	r := search.New(search.Query{}, search.Options{MaxKept: 50_000, Layers: 1}).Image(t.Context(), p, "x", img)
	if len(r.Failed) != 1 || !errors.Is(r.Failed[0], oci.ErrTooLarge) {
		t.Fatalf("got %v, want one layer too large", r.Failed)
	}
	same(t, "the rest", list(r), "1 a")
}

func TestArtifactsAreNoFileSystems(t *testing.T) {
	p := &place{}
	l := imagetest.Entries(imagetest.File("a", ""))
	img := p.add(t, imagetest.New(imagetest.Linux, nil, l, imagetest.Blob("application/vnd.dev.cosign.simplesigning.v1+json", []byte("{}"))))
	img.Config.MediaType = "application/vnd.example.config"
	r := search.New(search.Query{Details: true}, search.Options{}).Image(t.Context(), p, "x", img)
	same(t, "artifact", list(r), "0 a")
	if len(r.Failed) != 0 || len(p.reads) != 1 {
		t.Errorf("failed %v, read %v; want the one archive read", r.Failed, p.reads)
	}
}
