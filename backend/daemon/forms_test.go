package daemon_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/oci"
)

var update = flag.Bool("update", false, "write testdata anew: what the daemons of this machine answer")

// A form is what one kind of daemon answers about the image of small.
type form struct {
	Inspect, History json.RawMessage
	save             []byte
}

// small is the image that testdata holds: four layers, of which two are the same.
func small(t testing.TB) plainImage {
	t.Helper()
	return newPlain(t, []string{"/one"},
		tarOf(t, map[string]string{"one": "1"}), tarOf(t, map[string]string{"two": "2"}),
		tarOf(t, map[string]string{"one": "1"}), tarOf(t, map[string]string{"three": "3"}))
}

// forms are recorded ones: of Debian 12's daemons by -update, and of Docker
// v2.0.0-beta.24 with either of its stores; in the newer one the image has gzip-ed
// layers, as if it had been pulled.
var forms = []string{"docker-20.10", "docker-modern-containerd", "docker-modern-graph", "podman-4.3"}

func loadForm(t testing.TB, name string) form {
	t.Helper()
	var f form
	for file, to := range map[string]*[]byte{"inspect.json": (*[]byte)(&f.Inspect), "history.json": (*[]byte)(&f.History), "save.tar": &f.save} {
		raw, err := os.ReadFile(filepath.Join("testdata", name, file))
		if err != nil {
			t.Fatal(err)
		}
		*to = raw
	}
	return f
}

var driverData = regexp.MustCompile(`"Data":\{[^}]*\}`)

func (f form) write(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join("testdata", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, raw := range map[string][]byte{"inspect.json": f.Inspect, "history.json": f.History, "save.tar": f.save} {
		raw = driverData.ReplaceAll(raw, []byte(`"Data":null`)) // paths of this machine
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// record loads small into d and compares what it answers with what is in
// testdata, or with -update puts it there.
func record(t *testing.T, d daemontest.Daemon) {
	img := small(t)
	dest := newTarget(t, d, "example.com/small:v1").image(t, "a/b:c")
	root := img.put(t, dest)
	if err := dest.Commit(t.Context(), root, root); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
	}}}
	defer client.CloseIdleConnections()
	get := func(path string) []byte {
		resp, err := client.Get("http://daemon/images/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", path, resp.Status, err)
		}
		return raw
	}
	got := form{get("example.com/small:v1/json"), get("example.com/small:v1/history"), get(string(img.config.Desc.Digest) + "/get")}
	name := "docker-20.10"
	if strings.Contains(t.Name(), "Podman") {
		name = "podman-4.3"
	}
	if *update {
		got.write(t, name)
	}
	want := loadForm(t, name)
	if names, has := memberNames(t, got.save), memberNames(t, want.save); !slices.Equal(names, has) {
		t.Errorf("the daemon of this machine sends %q, and testdata/%s has %q: write it anew with -update", names, name, has)
	}
}

// A member is one of an archive.
type member struct {
	h    *tar.Header
	body []byte
}

func members(t testing.TB, raw []byte) []member {
	t.Helper()
	var list []member
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, member{h, body})
	}
}

func memberNames(t testing.TB, raw []byte) []string {
	t.Helper()
	var names []string
	for _, m := range members(t, raw) {
		names = append(names, m.h.Name)
	}
	return names
}

func archiveOf(t testing.TB, list []member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range list {
		m.h.Size = int64(len(m.body))
		if err := w.WriteHeader(m.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A replay answers as a daemon does.
type replay struct {
	form
	load   string // answer to an archive
	status int    // of inspect; 0 is 200
	loaded []byte // what was sent
}

// serve gives the URI of image small at a daemon that answers as r says.
func serve(t testing.TB, r *replay) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "replay-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: r}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return "docker://example.com/small:v1?socket=" + filepath.Join(dir, "s")
}

func (r *replay) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var is struct{ ID oci.Digest }
	_ = json.Unmarshal(r.Inspect, &is)
	switch q.URL.Path {
	case "/images/example.com/small:v1/json":
		if r.status != 0 {
			w.WriteHeader(r.status)
		}
		_, _ = w.Write(r.Inspect)
	case "/images/" + string(is.ID) + "/history":
		_, _ = w.Write(r.History)
	case "/images/" + string(is.ID) + "/get":
		_, _ = w.Write(r.save)
	case "/images/load":
		r.loaded, _ = io.ReadAll(q.Body)
		_, _ = io.WriteString(w, r.load)
	default:
		http.NotFound(w, q)
	}
}

func TestForms(t *testing.T) {
	img := small(t)
	orders := map[string]func([]member){
		"as sent":  func([]member) {},
		"reversed": slices.Reverse[[]member],
		"by size":  func(l []member) { slices.SortStableFunc(l, func(a, b member) int { return len(a.body) - len(b.body) }) },
	}
	for _, name := range forms {
		for order, sorted := range orders {
			t.Run(name+", "+order, func(t *testing.T) {
				f := loadForm(t, name)
				list := members(t, f.save)
				sorted(list)
				if order != "as sent" {
					f.save = archiveOf(t, list)
				}
				uri := serve(t, &replay{form: f})
				if strings.HasSuffix(name, "containerd") {
					img.checkKept(t, openSource(t, uri), f)
				} else {
					img.check(t, openSource(t, uri))
				}
			})
		}
	}
}

// Of an index the daemon tells which child is the one that it saves.
func TestIndexInTheContainerdStore(t *testing.T) {
	f := loadForm(t, "docker-modern-containerd")
	var is map[string]any
	if err := json.Unmarshal(f.Inspect, &is); err != nil {
		t.Fatal(err)
	}
	child := is["Descriptor"].(map[string]any)["digest"].(string)
	entry := func(kind, arch, digest string, available bool) map[string]any {
		return map[string]any{"Kind": kind, "Available": available,
			"Descriptor": map[string]any{"mediaType": oci.MediaTypeManifest, "digest": digest, "size": 1},
			"ImageData":  map[string]any{"Platform": map[string]any{"os": "linux", "architecture": arch}}}
	}
	other := digest.FromString("other").String()
	is["Descriptor"] = map[string]any{"mediaType": oci.MediaTypeIndex, "digest": is["Id"], "size": 1}
	for name, tt := range map[string]struct {
		manifests []any
		want      string
	}{
		"one of many":  {[]any{entry("attestation", "amd64", other, true), entry("image", "arm64", other, true), entry("image", "amd64", other, false), entry("image", "amd64", child, true)}, child},
		"nobody knows": {[]any{entry("image", "amd64", other, true), entry("image", "amd64", child, true)}, ""},
		"not told":     {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			is["Manifests"] = tt.manifests
			raw, err := json.Marshal(is)
			if err != nil {
				t.Fatal(err)
			}
			src := openSource(t, serve(t, &replay{form: form{raw, f.History, f.save}}))
			d, _, err := src.(oci.Describer).Describe(t.Context(), "")
			if err != nil || string(d.Digest) != tt.want || oci.IsIndexType(d.MediaType) || len(d.Annotations) != 0 {
				t.Errorf("described %+v, %v, want %q", d, err, tt.want)
			}
			if got := readStream(t, src); digest.FromBytes(got.manifest).String() != child || len(got.layers) != 3 {
				t.Errorf("%d layers, manifest %s, want %s", len(got.layers), digest.FromBytes(got.manifest), child)
			}
		})
	}
}

// checkKept is check of a daemon that keeps the image's manifest.
func (img plainImage) checkKept(t *testing.T, src oci.Source, f form) {
	t.Helper()
	var is struct{ Descriptor oci.Descriptor }
	if err := json.Unmarshal(f.Inspect, &is); err != nil {
		t.Fatal(err)
	}
	got := readStream(t, src)
	if !bytes.Equal(got.config, img.config.Bytes) || digest.FromBytes(got.manifest) != is.Descriptor.Digest || len(got.layers) != 3 {
		t.Errorf("%d layers, config %s, manifest %s", len(got.layers), got.config, got.manifest)
	}
	if last := got.described[len(got.described)-1]; last.Desc.Digest != is.Descriptor.Digest {
		t.Errorf("the last part is %+v", last)
	}
	d, raw, err := src.Resolve(t.Context(), "v1")
	if err != nil || !bytes.Equal(raw, got.manifest) || d.Digest != is.Descriptor.Digest || d.Annotations[oci.AnnotationSynthetic] != "" {
		t.Fatalf("resolved %+v, %v", d, err)
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range m.Layers {
		stored := read(t, src, l)
		if id := img.layers[i].DiffID; digest.FromBytes(plainOf(t, stored)) != id || !bytes.Equal(got.layers[id], stored) {
			t.Errorf("layer %d: other bytes", i)
		}
	}
	if d, _, err := src.(oci.Describer).Describe(t.Context(), ""); err != nil || d.Digest != is.Descriptor.Digest || len(d.Annotations) != 0 {
		t.Errorf("described %+v, %v", d, err)
	}
	if _, raw, err := src.Resolve(t.Context(), string(is.Descriptor.Digest)); err != nil || len(raw) == 0 {
		t.Errorf("by digest: %v", err)
	}
}
