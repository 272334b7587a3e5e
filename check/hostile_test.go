package check_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// held is content as a source, for tests of many images.
type held struct{ *content }

func (h held) Resolve(_ context.Context, ref string) (oci.Descriptor, []byte, error) {
	b, ok := h.files[oci.Digest(ref)]
	if !ok {
		return oci.Descriptor{}, nil, oci.ErrNotFound
	}
	return oci.Descriptor{MediaType: h.types[oci.Digest(ref)], Digest: oci.Digest(ref), Size: int64(len(b))}, b, nil
}

func (h held) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := h.Resolve(ctx, ref)
	return d, err
}

func (h held) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	b, ok := h.files[d.Digest]
	if !ok || oci.ValidDigest(d.Digest) != nil {
		return nil, oci.ErrNotFound
	}
	return oci.Verify(io.NopCloser(bytes.NewReader(b)), d), nil
}

func (h held) check(t *testing.T, opt check.Options) check.Report {
	t.Helper()
	r, err := check.Image(t.Context(), h, oci.Item{Desc: h.root}, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// texts gives the messages of check id.
func texts(r check.Report, id string) (out []string) {
	for _, f := range r.Results {
		if f.Check == id {
			out = append(out, f.Message)
		}
	}
	return out
}

// A blob that is cut and whose digest is right is never taken for whole.
func TestTruncatedLayers(t *testing.T) {
	raw := archive(reg("a", "a"), folder("b/"), reg("b/c", strings.Repeat("c", 1000)))
	for n := range len(raw) - 512 { // one zero block is an end
		if r := (held{of(imagetest.New(imagetest.Linux, nil, imagetest.Blob(ocispec.MediaTypeImageLayer, raw[:n])))}).check(t, check.Options{}); r.Errors+r.Warnings == 0 {
			t.Errorf("a tar cut after %d of %d bytes passes", n, len(raw))
		} else if whole := n == 0 || n > 512 && n <= 1024 || n == 1536 || n >= 3048 && n <= 3072; whole != (len(texts(r, "tar-format")) == 0) {
			t.Errorf("a tar cut after %d of %d bytes: %v", n, len(raw), r.Results)
		}
	}
	for _, l := range []imagetest.Layer{imagetest.Gzip(raw), zstdLayer(raw)} {
		for n := range len(l.Bytes) {
			r := (held{image(compressed(l.Desc.MediaType, l.Bytes[:n], raw))}).check(t, check.Options{})
			if r.Errors == 0 {
				t.Errorf("%s cut after %d of %d bytes passes", l.Desc.MediaType, n, len(l.Bytes))
			}
		}
		r := (held{image(compressed(l.Desc.MediaType, append(l.Bytes[:len(l.Bytes):len(l.Bytes)], "more"...), raw))}).check(t, check.Options{})
		if len(texts(r, "layer-compression")) != 1 {
			t.Errorf("%s with bytes behind: %v", l.Desc.MediaType, r.Results)
		}
	}
}

func TestWhatStandsBehindTheTar(t *testing.T) {
	hidden := archive(reg("hidden", ""))
	for name, raw := range map[string][]byte{
		"another tar":   append(archive(reg("a", "")), hidden...),
		"no end":        archive(reg("a", "a"))[:2*512],
		"no padding":    archive(reg("a", "a"))[:513],
		"far behind it": append(append(archive(reg("a", "")), make([]byte, 100_000)...), hidden...),
	} {
		r := (held{image(imagetest.Gzip(raw))}).check(t, check.Options{})
		if len(texts(r, "tar-end")) != 1 || r.Errors != 0 {
			t.Errorf("%s: got %v", name, r.Results)
		}
	}
	r := (held{image(imagetest.Gzip(append(archive(reg("a", "")), make([]byte, 100_000)...)))}).check(t, check.Options{})
	if r.Warnings != 0 {
		t.Errorf("zeros behind the end: got %v", r.Results)
	}
}

func TestLimits(t *testing.T) {
	var many []entry
	for i := range 200 {
		many = append(many, reg(fmt.Sprint("f", i), ""))
	}
	var header bytes.Buffer
	tw := tar.NewWriter(&header)
	must(tw.WriteHeader(&tar.Header{Name: "huge", Size: 1 << 62, Mode: 0o644, Format: tar.FormatGNU}))
	tests := []struct {
		name  string
		image *content
		opt   check.Options
		want  string
	}{
		{"entries of a layer", image(entries(many...)), check.Options{MaxEntries: 100}, "layer-limits"},
		{"entries of all layers", image(entries(many[:90]...), entries(many[90:180]...)), check.Options{MaxEntries: 100}, "layer-limits"},
		{"bytes", image(entries(reg("a", strings.Repeat("a", 10_000)))), check.Options{Layer: layer.Options{MaxBytes: 9000}}, "layer-limits"},
		{"a size that nobody sends", image(imagetest.Gzip(header.Bytes())), check.Options{}, "tar-format"},
		{"a config of 5 MiB", image().replaceConfig([]byte(`{"x":"` + strings.Repeat("x", 5<<20) + `"}`)), check.Options{}, "config-valid"},
		{"a config nested deep", image().replaceConfig([]byte(`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`)), check.Options{}, "config-valid"},
		{"a manifest of 5 MiB", image().edit(func(m map[string]any) { m["x"] = strings.Repeat("x", 5<<20) }), check.Options{}, "manifest-valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := held{tt.image}.check(t, tt.opt)
			if r.Errors != 1 || len(texts(r, tt.want)) != 1 {
				t.Errorf("got %v, want %s alone", r.Results, tt.want)
			}
		})
	}
}

func TestConfigs(t *testing.T) {
	for _, raw := range []string{"null", "[]", "", "{", "7", `{"rootfs":[]}`, `{"rootfs":{"diff_ids":"x"}}`, `{"history":{}}`, `{"history":[{"created":"yesterday"}]}`,
		`{"config":{"Labels":[]}}`, `{"config":{"Env":"PATH"}}`, `{"os":"linux","os":"linux"}`, `{"os":"a","OS":"b"}`, `{"config":{"User":"a","user":"b"}}`, `{} {}`, `{}]`} {
		r := held{image().replaceConfig([]byte(raw))}.check(t, check.Options{})
		if len(texts(r, "config-valid")) != 1 || r.Errors != 1 {
			t.Errorf("%s: got %v", raw, r.Results)
		}
	}
}

// indexes wraps an image into depth indexes of fan entries each.
func indexes(depth, fan int) *content {
	c := image()
	for i := range depth {
		idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		idx.SchemaVersion = 2
		for range fan {
			d := c.root
			if i == 0 {
				d.Platform = &imagetest.Linux
			}
			idx.Manifests = append(idx.Manifests, d)
		}
		raw, err := json.Marshal(idx)
		must(err)
		c.root.MediaType = idx.MediaType
		c.replace(raw)
	}
	return c
}

func TestNestedIndexes(t *testing.T) {
	if r := (held{indexes(4, 1)}).check(t, check.Options{}); r.Errors+r.Warnings != 0 {
		t.Errorf("four levels: got %v", r.Results)
	}
	if r := (held{indexes(5, 1)}).check(t, check.Options{}); r.Errors != 1 || len(texts(r, "index-child")) != 1 {
		t.Errorf("five levels: got %v", r.Results)
	}
	r := (held{indexes(4, 500)}).check(t, check.Options{}) // 500^4 paths, five manifests
	if len(texts(r, "config-digest")) != 1 {
		t.Errorf("a manifest that is listed often was checked %d times", len(texts(r, "config-digest")))
	}
}

func TestFindingsAreCounted(t *testing.T) {
	var first, again []entry
	for i := range 25 {
		first = append(first, reg(fmt.Sprintf("d/f%02d", i), "").with(func(h *tar.Header) { h.Mode = 0o4777 }))
		again = append(again, reg(fmt.Sprintf("d/f%02d", i), "x"), reg(fmt.Sprintf("d/F%02d", i), "x"), hardlink(fmt.Sprint("h", i), "nowhere"))
	}
	c := of(imagetest.New(imagetest.Linux, nil, entries(first...), entries(again...)))
	want := ""
	for range 5 { // the order of hashes is another each time
		r := held{c}.check(t, check.Options{})
		for _, id := range []string{"tar-permissions", "duplicate-file", "case-conflict", "hardlink-dangling"} {
			if got := texts(r, id); len(got) != 11 || !strings.HasSuffix(got[10], "... and 15 more") {
				t.Errorf("%s: got %q", id, got)
			}
		}
		if got := texts(r, "duplicate-file")[3]; got != "d/f03 is in layer 0 and again in layer 1" {
			t.Errorf("got %s", got)
		}
		if got := texts(r, "case-conflict")[3]; got != "d/F03 and d/f03" {
			t.Errorf("got %s", got)
		}
		if text := fmt.Sprint(r); want == "" {
			want = text
		} else if text != want {
			t.Error("two checks of one image differ")
		}
	}
}

// T23: many whiteouts and many files take linear time.
func TestManyWhiteouts(t *testing.T) {
	var low, middle, high []entry
	for i := range 20_000 {
		low = append(low, reg(fmt.Sprintf("d%d/a/b/c/d/f", i%5000), ""))
		if i < 5000 {
			middle = append(middle, reg(fmt.Sprintf("d%d/.wh..wh..opq", i), ""), reg(fmt.Sprintf("d%d/a/.wh.b", i), ""))
		}
		high = append(high, hardlink(fmt.Sprintf("h%d", i), fmt.Sprintf("d%d/a/b/c/d/f", i%5000)))
	}
	r := held{image(entries(low...), entries(middle...), entries(high...))}.check(t, check.Options{})
	if got := texts(r, "hardlink-dangling"); len(got) != 11 {
		t.Errorf("got %q", got)
	}
}

func FuzzLayer(f *testing.F) {
	f.Add(archive(reg("a", "a"), hardlink("b", "a"), reg(".wh.x", ""), folder("D/"), reg("d", "")))
	f.Add(archive(reg("a/../../b", ""), soft("l", "/"), hardlink("c", "../x"), reg("x/.wh..wh..opq", "")))
	for _, d := range defects {
		for _, b := range d.make().files {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		l := compressed(ocispec.MediaTypeImageLayer, blob, blob)
		opt := check.Options{MaxEntries: 1000, Layer: layer.Options{MaxBytes: 1 << 20}}
		r := held{image(l, l)}.check(t, opt)
		whole := len(texts(r, "tar-format"))+len(texts(r, "tar-end"))+len(texts(r, "layer-compression"))+len(texts(r, "layer-limits"))+len(texts(r, "layer-media-type")) == 0
		if whole && !endsAsTar(blob) {
			t.Errorf("%d bytes pass for a whole tar", len(blob))
		}
	})
}

// endsAsTar reads raw to its end as archive/tar does.
func endsAsTar(raw []byte) bool {
	tr := tar.NewReader(bytes.NewReader(raw))
	for {
		if _, err := tr.Next(); err != nil {
			return err == io.EOF
		}
	}
}

func FuzzMetadata(f *testing.F) {
	for _, d := range defects {
		c := d.make()
		for _, b := range c.files {
			if bytes.HasPrefix(b, []byte("{")) {
				f.Add(c.root.MediaType, c.files[c.root.Digest], b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, mt string, manifest, config []byte) {
		c := image()
		c.root.MediaType = mt
		c.replace(manifest)
		held{c}.check(t, check.Options{})
		held{image().replaceConfig(config)}.check(t, check.Options{})
	})
}
