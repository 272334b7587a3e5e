package pipeline_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

func chain(t *testing.T, specs ...string) filter.Chain {
	t.Helper()
	c, err := filter.ParseAll(specs, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tarWith makes a tar of headers; a regular file's content is its name.
func tarWith(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1, 0)
		}
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(h.Name))
		}
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			body := []byte(h.Name)
			if h.Size > int64(len(body)) { // that gzip can't make small
				body = make([]byte, h.Size)
				_, _ = rand.NewChaCha8([32]byte{}).Read(body)
			}
			if _, err := w.Write(body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An imageThere is an image read back from where it was written.
type imageThere struct {
	oci.Descriptor
	raw    string
	m      *oci.Manifest
	config string
	cfg    ocispec.Image
	files  []map[string]string // of each layer: content, or what it links to
}

// readImage reads the image ref and checks its diff_ids.
func readImage(t *testing.T, src oci.Source, ref string) imageThere {
	t.Helper()
	d, raw, err := src.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	i := imageThere{Descriptor: d, raw: string(raw)}
	if i.m, err = oci.ParseManifest(d.MediaType, raw); err != nil {
		t.Fatal(err)
	}
	if i.m.IsIndex() {
		return i
	}
	config, err := read(t.Context(), src, *i.m.Config)
	if err != nil {
		t.Fatal(err)
	}
	i.config = string(config)
	if err := json.Unmarshal(config, &i.cfg); err != nil {
		t.Fatal(err)
	}
	for n, l := range i.m.Layers {
		blob, err := read(t.Context(), src, l)
		if err != nil {
			t.Fatal(err)
		}
		files, diffID := unpack(t, blob)
		if i.cfg.RootFS.DiffIDs[n] != diffID {
			t.Errorf("layer %d is %s, the config says %s", n, diffID, i.cfg.RootFS.DiffIDs[n])
		}
		i.files = append(i.files, files)
	}
	return i
}

func unpack(t *testing.T, blob []byte) (map[string]string, oci.Digest) {
	t.Helper()
	files := map[string]string{}
	var raw bytes.Buffer
	r, err := layer.Open(bytes.NewReader(blob), layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := raw.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	id := digest.FromBytes(raw.Bytes())
	tr := tar.NewReader(&raw)
	for h, err := tr.Next(); err == nil; h, err = tr.Next() {
		var body bytes.Buffer
		if _, err := body.ReadFrom(tr); err != nil {
			t.Fatal(err)
		}
		files[h.Name] = body.String()
		if h.Linkname != "" {
			files[h.Name] = "-> " + h.Linkname
		}
	}
	return files, id
}

func TestFilteredImage(t *testing.T) {
	touched := imagetest.Gzip(tarWith(t, tar.Header{Name: "etc/motd"}, tar.Header{Name: "var/cache/x"}))
	untouched := imagetest.Gzip(tarWith(t, tar.Header{Name: "bin/sh"}))
	zst := zstdLayer(t, tarWith(t, tar.Header{Name: "var/cache/y"}, tar.Header{Name: "z"}))
	plain := imagetest.Blob(ocispec.MediaTypeImageLayer, tarWith(t, tar.Header{Name: "var/cache/p"}, tar.Header{Name: "p"}))
	touched.Desc.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:x", "kept": "yes"}
	img := imagetest.New(imagetest.Linux, map[string]string{"a&b": "<c>"}, touched, untouched, zst, plain, touched)
	var m map[string]any
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m["x-unknown"] = []any{1.5}
	img = remake(t, img, m)

	far, near := newFar(t), newFar(t)
	item := far.push(t, "org/app", "v1", img)
	for name, uri := range map[string]string{"registry": "registry://" + near.host, "ocidir": "ocidir://" + t.TempDir() + "/x"} {
		t.Run(name, func(t *testing.T) {
			host := near.host
			target := openTarget(t, uri, near.env())
			opt := pipeline.Options{Filters: chain(t, "exclude:pattern=var/cache/**"), Verify: pipeline.VerifyFull}
			way := far.image(t, item, target, host)
			r := copyImage(t, way, opt)
			got := readImage(t, way.Dest, "")
			if r.Status != oci.StatusCopied || !r.Verified || r.Written != got.Digest || r.Digest != img.Desc.Digest || r.LayersFiltered != 3 || r.Layers != 5 {
				t.Errorf("got %+v, want three distinct layers of five filtered, and %s", r, got.Digest)
			}
			was, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range got.m.Layers {
				if l.MediaType != was.Layers[i].MediaType {
					t.Errorf("layer %d became %s", i, l.MediaType)
				}
				if same := l.Digest == was.Layers[i].Digest; same != (i == 1) {
					t.Errorf("layer %d keeps its digest: %v", i, same)
				}
			}
			if a := got.m.Layers[0].Annotations; !maps.Equal(a, map[string]string{"kept": "yes"}) {
				t.Errorf("the layer's annotations are %v", a)
			}
			want := []map[string]string{{"etc/motd": "etc/motd"}, {"bin/sh": "bin/sh"}, {"z": "z"}, {"p": "p"}, {"etc/motd": "etc/motd"}}
			if !slices.EqualFunc(got.files, want, maps.Equal) {
				t.Errorf("got %v, want %v", got.files, want)
			}
			// What nobody asked to change is as it was, to the byte.
			undo := strings.NewReplacer(string(got.m.Config.Digest), string(was.Config.Digest))
			if !strings.Contains(undo.Replace(got.raw), `"x-unknown": [`+"\n\t\t1.5\n\t]") {
				t.Errorf("got manifest %s", got.raw)
			}
			old := string(img.Blobs[was.Config.Digest])
			for i := range was.Layers {
				old = strings.Replace(old, string(slices.Concat([]imagetest.Layer{touched, untouched, zst, plain, touched})[i].DiffID), string(got.cfg.RootFS.DiffIDs[i]), 1)
			}
			if got.config != old {
				t.Errorf("got config\n%s, want\n%s", got.config, old)
			}

			again := copyImage(t, far.image(t, item, target, host), opt)
			if again.Status != oci.StatusSkipped || again.Written != got.Digest {
				t.Errorf("second run: %+v, want skipped", again)
			}
			if r := copyImage(t, far.image(t, item, target, host), pipeline.Options{}); r.Status != oci.StatusCopied || r.Written != "" {
				t.Errorf("without filters: %+v, want the source's image copied", r)
			}
		})
	}
}

func TestDockerImageStaysDockers(t *testing.T) {
	l := imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}, tar.Header{Name: "b"}))
	l.Desc.MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	img := imagetest.New(imagetest.Linux, nil, l)
	raw := strings.ReplaceAll(string(img.Raw), ocispec.MediaTypeImageManifest, oci.MediaTypeDockerManifest)
	raw = strings.ReplaceAll(raw, ocispec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json")
	img.Raw = []byte(raw)
	img.Desc = oci.Descriptor{MediaType: oci.MediaTypeDockerManifest, Digest: digest.FromString(raw), Size: int64(len(raw))}
	far := newFar(t)
	way := far.image(t, far.push(t, "org/app", "v1", img), openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	copyImage(t, way, pipeline.Options{Filters: chain(t, "exclude:pattern=b")})
	got := readImage(t, way.Dest, "")
	if got.MediaType != oci.MediaTypeDockerManifest || got.m.Layers[0].MediaType != l.Desc.MediaType || got.m.Layers[0].Digest == l.Desc.Digest || strings.Contains(got.raw, "oci") {
		t.Errorf("got %s", got.raw)
	}
}

// An index has its changed children's digests, and no attestation that is no
// longer true.
func TestFilteredIndex(t *testing.T) {
	far, near := newFar(t), newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	item := far.push(t, "org/app", "v1", index)
	for name, specs := range map[string][]string{
		"both change":  {"normalize-timestamps"},
		"one changes":  {"exclude:pattern=data/1"}, // which is in the second alone
		"none changes": {"exclude:pattern=no/such"},
	} {
		t.Run(name, func(t *testing.T) {
			target := openTarget(t, "ocidir://"+t.TempDir()+"/x", near.env())
			var warned []string
			opt := pipeline.Options{Filters: chain(t, specs...), Verify: pipeline.VerifyFull, Warn: func(s string) { warned = append(warned, s) }}
			way := far.image(t, item, target, far.host)
			r := copyImage(t, way, opt)
			got := readImage(t, way.Dest, "")
			changed := map[string]int{"both change": 2, "one changes": 1}[name]
			if len(got.m.Manifests) != 4-changed || r.AttestationsDropped != changed || (len(warned) > 0) != (changed > 0) {
				t.Errorf("got %s, %+v, warned %q; want %d attestations fewer", got.raw, r, warned, changed)
			}
			if (got.Digest == index.Desc.Digest) != (changed == 0) || (r.Written == "") != (changed == 0) {
				t.Errorf("got %s of %s, written %q", got.Digest, index.Desc.Digest, r.Written)
			}
			was, err := oci.ParseManifest(index.Desc.MediaType, index.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range got.m.Manifests[:2] {
				if keeps := d.Digest == was.Manifests[i].Digest; keeps != (changed == 0 || changed == 1 && i == 0) {
					t.Errorf("child %d keeps its digest: %v", i, keeps)
				}
				if d.Platform == nil || d.Platform.Architecture != was.Manifests[i].Platform.Architecture {
					t.Errorf("child %d is for %+v", i, d.Platform)
				}
				readImage(t, way.Dest, string(d.Digest))
			}
			if again := copyImage(t, far.image(t, item, target, far.host), opt); again.Status != oci.StatusSkipped {
				t.Errorf("second run: %+v", again)
			}
		})
	}
}

// What is no image passes as it is, in any company.
func TestArtifactsPassFilters(t *testing.T) {
	far := newFar(t)
	layer := imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}))
	chart := imagetest.New(imagetest.Linux, nil, layer)
	chart = remake(t, chart, json.RawMessage(strings.Replace(string(chart.Raw), ocispec.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json", 1)))
	statement := imagetest.New(imagetest.Linux, nil, imagetest.Blob("application/vnd.in-toto+json", []byte("{}")))
	for name, img := range map[string]imagetest.Image{"chart": chart, "attestation by itself": statement} {
		t.Run(name, func(t *testing.T) {
			way := far.image(t, far.push(t, "org/app", "v1", img), openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
			r := copyImage(t, way, pipeline.Options{Filters: chain(t, "exclude:pattern=a", "set-config:label=x=y")})
			if got := readManifest(t, way.Dest); got.Digest != img.Desc.Digest || r.Written != "" {
				t.Errorf("got %s, want %s", got.Digest, img.Desc.Digest)
			}
		})
	}
}

func readManifest(t *testing.T, src oci.Source) oci.Descriptor {
	t.Helper()
	d, _, err := src.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Config and annotations change where no layer does.
func TestImageFilters(t *testing.T) {
	far := newFar(t)
	img := imagetest.New(imagetest.Linux, map[string]string{"old": "1"}, imagetest.Gzip(tarWith(t, tar.Header{Name: "a"})))
	item := far.push(t, "org/app", "v1", img)
	way := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	r := copyImage(t, way, pipeline.Options{Filters: chain(t, "set-config:label=new=2,annotation=who=us,user=7")})
	got := readImage(t, way.Dest, "")
	was := readImage(t, far.source(t, item), "v1")
	if got.cfg.Config.Labels["new"] != "2" || got.cfg.Config.Labels["old"] != "1" || got.cfg.Config.User != "7" || got.m.Annotations["who"] != "us" {
		t.Errorf("got %s, %s", got.config, got.raw)
	}
	if !slices.EqualFunc(got.m.Layers, was.m.Layers, func(a, b oci.Descriptor) bool { return a.Digest == b.Digest }) || r.LayersFiltered != 0 {
		t.Errorf("the layers changed: %s", got.raw)
	}
	if n := count(far.log(), "GET", "/blobs/"+string(was.m.Layers[0].Digest)); n != 2 { // here, and by the copy
		t.Errorf("the layer was read %d times", n)
	}
}

// A hard link to a file that is dropped gets the file's body, in a second pass
// over the layer.
func TestPassBeginsAgain(t *testing.T) {
	links := []tar.Header{
		{Name: "var/cache/x"}, {Name: "data"}, {Name: "keep", Typeflag: tar.TypeLink, Linkname: "var/cache/x"},
		{Name: "also", Typeflag: tar.TypeLink, Linkname: "var/cache/x"},
	}
	small := imagetest.Gzip(tarWith(t, links...))
	links[1] = tar.Header{Name: "data", Typeflag: tar.TypeReg, Size: 2 << 20} // so that the upload is under way
	for _, tt := range []struct {
		uri   string
		large bool
	}{{"registry", false}, {"ocidir", false}, {"dir", false}, {"registry", true}, {"ocidir", true}, {"dir", true}} {
		uri, l := tt.uri, small
		if tt.large {
			l = imagetest.Gzip(tarWith(t, links...))
		}
		t.Run(fmt.Sprintf("%s large=%v", uri, tt.large), func(t *testing.T) {
			far, near := newFar(t), newFar(t)
			at := uri + "://" + t.TempDir() + "/x"
			if uri == "registry" {
				at = "registry://" + near.host
			}
			way := far.image(t, far.push(t, "org/app", "v1", imagetest.New(imagetest.Linux, nil, l)), openTarget(t, at, near.env()), near.host)
			copyImage(t, way, pipeline.Options{Filters: chain(t, "exclude:pattern=var/cache"), Verify: pipeline.VerifyFull})
			if n := count(far.log(), "GET", "/blobs/"+string(l.Desc.Digest)); n != 2 {
				t.Errorf("the layer was read %d times, want twice", n)
			}
			if uri == "dir" {
				return
			}
			got := readImage(t, way.Dest, "").files[0]
			delete(got, "data")
			if want := (map[string]string{"keep": "var/cache/x", "also": "-> keep"}); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// A folder that was written with other filters, or none, isn't taken for done.
func TestFilteredFolder(t *testing.T) {
	far := newFar(t)
	item := far.push(t, "org/app", "v1", attested(t, imagetest.Linux, arm64))
	path := t.TempDir() + "/x"
	target := openTarget(t, "dir://"+path, far.env())
	seen := map[string]bool{}
	for _, specs := range [][]string{{"normalize-timestamps"}, nil, {"normalize-timestamps:ts=7"}, {"exclude:pattern=no/such"}, {"normalize-timestamps"}} {
		opt := pipeline.Options{Filters: chain(t, specs...), Verify: pipeline.VerifyFull}
		for _, want := range []oci.Status{oci.StatusCopied, oci.StatusSkipped} {
			far.log()
			if r := copyImage(t, far.image(t, item, target, far.host), opt); r.Status != want {
				t.Errorf("%q: got %s, want %s", specs, r.Status, want)
			}
			if asked := far.log(); want == oci.StatusSkipped && len(asked) > 1 {
				t.Errorf("%q: the second run asked %q", specs, asked)
			}
		}
		raw, err := os.ReadFile(filepath.Join(path, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		var m []struct {
			Config string
			Layers []string
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		config, err := os.ReadFile(filepath.Join(path, m[0].Config))
		if err != nil {
			t.Fatal(err)
		}
		var cfg ocispec.Image
		if err := json.Unmarshal(config, &cfg); err != nil {
			t.Fatal(err)
		}
		for i, l := range m[0].Layers {
			blob, err := os.ReadFile(filepath.Join(path, l))
			if err != nil || digest.FromBytes(blob) != cfg.RootFS.DiffIDs[i] {
				t.Errorf("%q: layer %d isn't that of the config: %v", specs, i, err)
			}
		}
		seen[m[0].Config] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d configs, want 3: as it was and two times", len(seen))
	}
}

// A layer whose bytes are wrong fails the image, and nothing is visible.
func TestFilteredLayerIsVerified(t *testing.T) {
	far := newFar(t)
	l := imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}))
	item := far.push(t, "org/app", "v1", imagetest.New(imagetest.Linux, nil, l))
	other := bytes.Clone(l.Bytes)
	other[9]++ // gzip's OS field, which decompressors don't look at
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+string(l.Desc.Digest)) {
			return false
		}
		_, _ = w.Write(other)
		return true
	})
	for _, uri := range []string{"ocidir", "dir"} {
		way := far.image(t, item, openTarget(t, uri+"://"+t.TempDir()+"/x", far.env()), far.host)
		r, err := pipeline.Copy(t.Context(), way, pipeline.Options{Filters: chain(t, "normalize-timestamps")})
		if !errors.Is(err, oci.ErrDigestMismatch) || r.Status != oci.StatusFailed || !strings.Contains(err.Error(), string(l.Desc.Digest)) {
			t.Errorf("%s: got %v, want a mismatch that names the layer", uri, err)
		}
		if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: the image is visible: %v", uri, err)
		}
	}
}

// Observers see each image once, also where it is there already.
func TestObservers(t *testing.T) {
	far := newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	item := far.push(t, "org/app", "v1", index)
	target := openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env())
	file := t.TempDir() + "/lines"
	for _, want := range []oci.Status{oci.StatusCopied, oci.StatusSkipped} {
		var found []string
		c, err := filter.ParseAll([]string{"search:pattern=etc/*", "inspect:file=" + file}, filter.Env{Found: func(f filter.Findings) error {
			found = append(found, f.Image.Platform.Architecture)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		way := far.image(t, item, target, far.host)
		if r := copyImage(t, way, pipeline.Options{Filters: c}); r.Status != want || r.Written != "" {
			t.Errorf("got %+v, want %s and the digest as it was", r, want)
		}
		if !slices.Equal(found, []string{"amd64", "arm64"}) {
			t.Errorf("found in %q", found)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil || strings.Count(string(raw), "\n") != 4 || strings.Contains(string(raw), `"Size": 0`) {
		t.Errorf("got %s, %v, want four lines with sizes", raw, err)
	}
}
