package oci_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseRef(t *testing.T) {
	tests := []struct {
		name, in, registry string
		want               oci.Ref // zero: an error
	}{
		{"tag", "quay.io/kolla/nova-api:1", "", oci.Ref{Registry: "quay.io", Repository: "kolla/nova-api", Tag: "1"}},
		{"port", "h:5000/a/b/c:t", "", oci.Ref{Registry: "h:5000", Repository: "a/b/c", Tag: "t"}},
		{"digest", "quay.io/a/b@sha256:" + hex64, "", oci.Ref{Registry: "quay.io", Repository: "a/b", Digest: "sha256:" + hex64}},
		{"tag and digest", "h.x/a:t@sha256:" + hex64, "", oci.Ref{Registry: "h.x", Repository: "a", Tag: "t", Digest: "sha256:" + hex64}},
		{"default host", "kolla/nova:1", "quay.io", oci.Ref{Registry: "quay.io", Repository: "kolla/nova", Tag: "1"}},
		{"IPv6", "[::1]:5000/a:t", "", oci.Ref{Registry: "[::1]:5000", Repository: "a", Tag: "t"}},
		{"no host", "kolla/nova:1", "", oci.Ref{}},
		{"traversal", "h.x/a/../b:1", "", oci.Ref{}},
		{"upper case", "h.x/A:1", "", oci.Ref{}},
		{"option", "--help", "h.x", oci.Ref{}},
		{"line break", "h.x/a\r\nb:1", "", oci.Ref{}},
		{"user", "user:pw@h.x/a:1", "", oci.Ref{}},
		{"short digest", "h.x/a@sha256:abc", "", oci.Ref{}},
		{"upper digest", "h.x/a@sha256:" + strings.ToUpper(hex64), "", oci.Ref{}},
		{"empty tag", "h.x/a:", "", oci.Ref{}},
		{"port over the limit", "h.x:70000/a:1", "", oci.Ref{}},
		{"homoglyph", "h.x/\u0430:1", "", oci.Ref{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oci.ParseRef(tt.in, tt.registry)
			if tt.want == (oci.Ref{}) {
				if !errors.Is(err, oci.ErrUsage) {
					t.Fatalf("got %v, %v, want a usage error", got, err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"quay.io/a/b:1", "[::1]:1/a@sha256:" + hex64, "a/../b", "x:y@z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := oci.ParseRef(s, "quay.io")
		if err != nil {
			return
		}
		again, err := oci.ParseRef(r.String(), "")
		if err != nil || again != r {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", s, r, again, err)
		}
	})
}

func TestParseManifestRefuses(t *testing.T) {
	d := `{"mediaType":"x/y","digest":"sha256:` + hex64 + `","size":0}`
	tests := []struct {
		name, mt, in string
		want         error
	}{
		{"a plain manifest", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[` + d + `]}`, nil},
		{"an index without media type", "", `{"schemaVersion":2,"manifests":[` + d + `]}`, nil},
		{"authors' keys that differ by case", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[],"annotations":{"Size":"1","size":"2"}}`, nil},
		{"null", "", `null`, oci.ErrInvalid},
		{"array", "", `[]`, oci.ErrInvalid},
		{"empty object", oci.MediaTypeManifest, `{}`, oci.ErrInvalid},
		{"nothing", "", ``, oci.ErrInvalid},
		{"key twice", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[],"layers":[` + d + `]}`, oci.ErrInvalid},
		{"key in another case", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[],"Layers":[` + d + `]}`, oci.ErrInvalid},
		{"key twice, once in escapes", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"layers":[],"lay\u0065rs":[` + d + `]}`, oci.ErrInvalid},
		{"key with a letter that folds to s", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"\u017fubject":` + d + `}`, oci.ErrInvalid},
		{"key twice among many", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"annotations":{` + numbered(40) + `,"k30":""}}`, oci.ErrInvalid},
		{"many keys", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"annotations":{` + numbered(40) + `}}`, nil},
		{"quotes and braces in a string", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `,"annotations":{"a":"\\\"{,\"a\":"}}`, nil},
		{"data behind the end", oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + d + `} {}`, oci.ErrInvalid},
		{"layers and manifests", "", `{"schemaVersion":2,"layers":[],"manifests":[]}`, oci.ErrInvalid},
		{"served as another type", oci.MediaTypeIndex, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":` + d + `}`, oci.ErrInvalid},
		{"negative size", oci.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"sha256:` + hex64 + `","size":-1}}`, oci.ErrInvalid},
		{"size with a fraction", oci.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"sha256:` + hex64 + `","size":1.5}}`, oci.ErrInvalid},
		{"digest with a path", oci.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1}}`, oci.ErrInvalid},
		{"deep nesting", oci.MediaTypeManifest, strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100), oci.ErrInvalid},
		{"schema 1", oci.MediaTypeDockerSchema1, `{}`, oci.ErrUnsupported},
		{"over 4 MiB", "", strings.Repeat(" ", oci.MaxManifestSize+1), oci.ErrTooLarge},
		{"HTML", "text/html", `<html>`, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := oci.ParseManifest(tt.mt, []byte(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// numbered gives n members k0, k1 and so on.
func numbered(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%q:%q", fmt.Sprint("k", i), "")
	}
	return strings.Join(all, ",")
}

func FuzzParseManifest(f *testing.F) {
	f.Add(`{"schemaVersion":2,"manifests":[]}`)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := oci.ParseManifest("", []byte(s))
		if err == nil && m.IsIndex() != (m.Config == nil) {
			t.Fatalf("%q: index %v, config %v", s, m.IsIndex(), m.Config)
		}
	})
}

func TestVerify(t *testing.T) {
	body := []byte("twelve bytes")
	d := oci.Descriptor{Digest: digest.FromBytes(body), Size: int64(len(body))}
	unsized := d
	unsized.Size = -1
	tests := []struct {
		name string
		d    oci.Descriptor
		body string
		want error
	}{
		{"right", d, "twelve bytes", nil},
		{"right, size unknown", unsized, "twelve bytes", nil},
		{"wrong bytes", d, "twelve bytez", oci.ErrDigestMismatch},
		{"wrong bytes, size unknown", unsized, "twelve", oci.ErrDigestMismatch},
		{"short", d, "twelve", oci.ErrDigestMismatch},
		{"long", d, "twelve bytes and more", oci.ErrDigestMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := io.ReadAll(oci.Verify(io.NopCloser(bytes.NewReader([]byte(tt.body))), tt.d))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && tt.d.Size >= 0 && int64(len(got)) >= tt.d.Size {
				t.Errorf("%d bytes came before the failure: a consumer that counts would not see it", len(got))
			}
		})
	}
}

func TestWrapSaysEachThingOnce(t *testing.T) {
	inner := oci.Wrap(oci.ErrNotFound, "fetch blob", "quay.io/a/b", oci.Descriptor{})
	outer := oci.Wrap(inner, "process", "quay.io/a/b:1", oci.Descriptor{})
	if got, want := outer.Error(), "fetch blob quay.io/a/b: not found"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	around := &oci.Error{Op: "inspect", Ref: "quay.io/a/b", Err: inner}
	if got, want := around.Error(), "inspect quay.io/a/b: fetch blob: not found"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(outer, oci.ErrNotFound) {
		t.Error("the kind is lost")
	}
}

// TestRefString: a name inside a layout may be a tag or a digest alone.
func TestRefString(t *testing.T) {
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for want, r := range map[string]oci.Ref{
		"h.x/a:1@" + d: {Registry: "h.x", Repository: "a", Tag: "1", Digest: d},
		"h.x/a@" + d:   {Registry: "h.x", Repository: "a", Digest: d},
		"a:1":          {Repository: "a", Tag: "1"},
		"v1":           {Tag: "v1"},
		d:              {Digest: d},
		"":             {},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestBytesDoNotOverflow: a manifest may claim any sizes.
func TestBytesDoNotOverflow(t *testing.T) {
	m := oci.Manifest{Layers: []oci.Descriptor{{Size: math.MaxInt64}, {Size: math.MaxInt64}, {Size: 3}}}
	if got := m.Bytes(); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}
