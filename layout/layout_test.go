package layout_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	hexA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hexB = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
)

func entry(hex, annotations string) string {
	return `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hex + `","size":2,"annotations":{` + annotations + `}}`
}

func index(entries ...string) string {
	return `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `],"annotations":{"x.y":"z"},"vendor":{"n":1.50}}`
}

func TestSetKeepsWhatIsNotOurs(t *testing.T) {
	const name = `"org.opencontainers.image.ref.name":"h.x/a:1"`
	foreign := []string{
		`{"mediaType":"x/y","digest":"sha256:` + hexB + `","size":3,"vendor":[1,null],"platform":{"os":"linux","architecture":"arm64"}}`,
		entry(hexB, `"org.opencontainers.image.ref.name":"not ours","k":"v"`),
	}
	x, err := layout.ParseIndex([]byte(index(foreign[0], entry(hexA, name), foreign[1])))
	if err != nil {
		t.Fatal(err)
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: "sha256:" + hexB, Size: 2}
	if changed, err := x.Set("h.x/a:1", d); !changed || err != nil {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if changed, err := x.Set("h.x/a:1", d); changed || err != nil {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	raw, err := x.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := index(entry(hexB, name), foreign[1], foreign[0]) // by name, without a name last
	if got, want := generic(t, string(raw)), generic(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("got %s\nwant %s", raw, want)
	}
	if !strings.Contains(string(raw), `"vendor":{"n":1.50}`) {
		t.Errorf("foreign bytes changed: %s", raw)
	}
}

func generic(t *testing.T, s string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return v
}

func TestSetReplacesDoubles(t *testing.T) {
	const name = `"org.opencontainers.image.ref.name":"v1"`
	x, err := layout.ParseIndex([]byte(index(entry(hexA, name), entry(hexB, name))))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := x.Get("v1")
	if changed, err := x.Set("v1", d); !changed || err != nil || len(x.Entries()) != 1 {
		t.Errorf("changed %v, %v, now %d entries", changed, err, len(x.Entries()))
	}
}

// TestSetDropsOtherNames: an entry from containerd has its name twice.
func TestSetDropsOtherNames(t *testing.T) {
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: "sha256:" + hexA, Annotations: map[string]string{
		"io.containerd.image.name": "h.x/old:1", layout.RefAnnotation: "1", "kept": "yes"}}
	x := layout.NewIndex()
	if _, err := x.Set("h.x/new:1", d); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{layout.RefAnnotation: "h.x/new:1", "kept": "yes"}
	if got := x.Entries()[0].Annotations; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if d.Annotations["io.containerd.image.name"] == "" {
		t.Error("the caller's map was changed")
	}
}

func TestParseIndexRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":            ``,
		"null":               `null`,
		"an array":           `[]`,
		"no version":         `{"manifests":[]}`,
		"null entry":         `{"schemaVersion":2,"manifests":[null]}`,
		"manifests twice":    `{"schemaVersion":2,"manifests":[],"manifests":[]}`,
		"behind the end":     `{"schemaVersion":2,"manifests":[]}{}`,
		"a path in a digest": `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}`,
		"upper case digest":  `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.ToUpper(hexA) + `","size":1}]}`,
		"negative size":      `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + hexA + `","size":-1}]}`,
		"manifests a string": `{"schemaVersion":2,"manifests":"x"}`,
	} {
		if _, err := layout.ParseIndex([]byte(in)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestCheckMarker(t *testing.T) {
	for in, want := range map[string]error{
		string(layout.Marker()):          nil,
		`{"imageLayoutVersion":"2.0.0"}`: oci.ErrUnsupported,
		`{}`:                             oci.ErrUnsupported,
		`x`:                              oci.ErrInvalid,
	} {
		if err := layout.CheckMarker([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", in, err, want)
		}
	}
}

func TestRef(t *testing.T) {
	const d = oci.Digest("sha256:" + hexA)
	full := oci.Ref{Registry: "quay.io", Repository: "kolla/nova", Tag: "1"}
	tests := []struct {
		test, name, containerd string
		want                   oci.Ref
		unreadable             string
	}{
		{"full reference", "quay.io/kolla/nova:1", "", full, ""},
		{"bare tag", "v1.2", "", oci.Ref{Tag: "v1.2"}, ""},
		{"no host", "kolla/nova:1", "", oci.Ref{Repository: "kolla/nova", Tag: "1"}, ""},
		{"no name", "", "", oci.Ref{Digest: d}, ""},
		{"by digest", "h.x/a@" + string(d), "", oci.Ref{Registry: "h.x", Repository: "a", Digest: d}, ""},
		{"containerd", "1", "quay.io/kolla/nova:1", full, ""},
		{"containerd, another tag", "2", "quay.io/kolla/nova:1", oci.Ref{Tag: "2"}, ""},
		{"traversal", "../../etc/passwd", "", oci.Ref{Digest: d}, "../../etc/passwd"},
		{"control bytes", "a\x1b[2J", "", oci.Ref{Digest: d}, "a\x1b[2J"},
		{"an option", "--help", "", oci.Ref{Digest: d}, "--help"},
	}
	for _, tt := range tests {
		t.Run(tt.test, func(t *testing.T) {
			a := map[string]string{layout.RefAnnotation: tt.name, "io.containerd.image.name": tt.containerd}
			got, unreadable := layout.Ref(oci.Descriptor{Digest: d, Annotations: a})
			if got != tt.want || unreadable != tt.unreadable {
				t.Errorf("got %+v, %q, want %+v, %q", got, unreadable, tt.want, tt.unreadable)
			}
			if unreadable == "" && tt.containerd == "" && tt.name != "" && layout.RefName(got) != tt.name {
				t.Errorf("it is written as %q, want %q", layout.RefName(got), tt.name)
			}
		})
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add(index(entry(hexA, `"org.opencontainers.image.ref.name":"h.x/a:1"`), entry(hexB, "")))
	f.Add(`{"schemaVersion":2}`)
	f.Fuzz(func(t *testing.T, s string) {
		x, err := layout.ParseIndex([]byte(s))
		if err != nil {
			return
		}
		before := len(x.Entries())
		for _, d := range x.Entries() {
			if ref, _ := layout.Ref(d); ref == (oci.Ref{}) {
				t.Fatalf("%q: an entry without any name", s)
			}
			if p := layout.BlobPath(d.Digest); strings.Contains(p, "..") || strings.Count(p, "/") != 2 {
				t.Fatalf("%q: path %q", s, p)
			}
		}
		raw, err := x.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := layout.ParseIndex(raw)
		if err != nil || len(again.Entries()) != before {
			t.Fatalf("%q was written as %s: %v", s, raw, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"v1", "h.x/a:1", "kolla/nova:1", "sha256:" + hexA, "../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, ok := layout.ParseName(s)
		if !ok {
			return
		}
		if again, ok := layout.ParseName(layout.RefName(ref)); !ok || again.Repository != ref.Repository || again.Registry != ref.Registry || again.Tag != ref.Tag {
			t.Fatalf("%q reads as %+v, which is written %q and reads as %+v", s, ref, layout.RefName(ref), again)
		}
	})
}

func TestPick(t *testing.T) {
	d := func(n string) oci.Digest { return oci.Digest("sha256:" + strings.Repeat(n, 64)) }
	item := func(name string, dgst oci.Digest) oci.Item {
		ref, ok := layout.ParseName(name)
		if !ok {
			t.Fatalf("%q", name)
		}
		return oci.Item{Ref: ref, Desc: oci.Descriptor{Digest: dgst, Annotations: map[string]string{layout.RefAnnotation: name}}}
	}
	items := []oci.Item{item("quay.io/a/b:1", d("a")), item("h.x/a/b:1", d("b")), item("h.x/a/c:2", d("c")), item("v3", d("d"))}
	tests := []struct {
		name string
		want oci.Digest
		err  error
	}{
		{"quay.io/a/b:1", d("a"), nil},
		{"a/c:2", d("c"), nil},
		{"2", d("c"), nil},
		{"v3", d("d"), nil},
		{string(d("b")), d("b"), nil},
		{"a/b:1", "", oci.ErrUsage},
		{"1", "", oci.ErrUsage},
		{"a/b", "", oci.ErrNotFound},
		{"quay.io/a/c:2", "", oci.ErrNotFound},
		{"../x", "", oci.ErrNotFound},
	}
	for _, tt := range tests {
		got, err := layout.Pick(items, tt.name)
		if got.Desc.Digest != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: got %s, %v, want %s, %v", tt.name, got.Desc.Digest, err, tt.want, tt.err)
		}
	}
}
