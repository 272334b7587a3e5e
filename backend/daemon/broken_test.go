package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestBrokenStreams is that whatever lacks a part, or has another one, is an
// error that names daemon and image.
func TestBrokenStreams(t *testing.T) {
	img := small(t)
	isLayer := func(m member) bool {
		return slices.ContainsFunc(img.layers, func(l imagetest.Layer) bool {
			return len(m.body) > 0 && (m.body[0] == 0x1f || len(m.body) == len(l.Bytes)) && bytes.Equal(plainOf(t, m.body), l.Bytes)
		})
	}
	isConfig := func(m member) bool { return bytes.Equal(m.body, img.config.Bytes) }
	drop := func(is func(member) bool) func([]byte) []byte {
		return func(raw []byte) []byte {
			list := members(t, raw)
			i := slices.IndexFunc(list, is)
			return archiveOf(t, slices.Delete(list, i, i+1))
		}
	}
	const sorry = `{"errorDetail":{"message":"the disk\u0007 is broken"},"error":"the disk\u0007 is broken"}` + "\r\n"
	tests := []struct {
		name string
		edit func([]byte) []byte
		want string
	}{
		{"empty", func([]byte) []byte { return nil }, "no config"},
		{"cut in a header", func(raw []byte) []byte { return raw[:700] }, "ended early"},
		{"cut in a layer", func(raw []byte) []byte {
			return raw[:bytes.Index(raw, img.layers[1].Bytes[:512])+700]
		}, ""},
		{"an error in the middle", func(raw []byte) []byte { return append(raw[:1536:1536], sorry...) }, `the daemon says "the disk is broken"`},
		{"no tar", func([]byte) []byte { return bytes.Repeat([]byte("garbage"), 1000) }, ""},
		{"without a layer", drop(isLayer), "no layer sha256:"},
		{"without the config", drop(isConfig), "no config"},
		{"a flipped byte in a layer", func(raw []byte) []byte {
			i := bytes.Index(raw, []byte("two\x00"))
			return append(append(slices.Clone(raw[:i+512]), 'X'), raw[i+513:]...)
		}, "digest mismatch"},
		{"a flipped byte in the config", func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"ENV a=b"`), []byte(`"ENV a=c"`), 1)
		}, "digest mismatch"},
	}
	for _, form := range forms {
		for _, tt := range tests {
			t.Run(form+", "+tt.name, func(t *testing.T) {
				f := loadForm(t, form)
				if strings.HasSuffix(form, "containerd") && !bytes.Contains(f.save, img.layers[1].Bytes[:512]) && strings.Contains(tt.name, "layer") && !strings.HasPrefix(tt.name, "without") {
					f.save = damageBlob(t, f.save, isLayer, strings.HasPrefix(tt.name, "cut"))
				} else {
					f.save = tt.edit(f.save)
				}
				uri := serve(t, &replay{form: f})
				_, err := tryStream(t, openSource(t, uri))
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "example.com/small:v1 of daemon unix://") {
					t.Errorf("streamed: %v, want %q", err, tt.want)
				}
				if _, ok := errors.AsType[*oci.Error](err); !ok {
					t.Errorf("%T", err)
				}
				src := openSource(t, uri)
				_, raw, err := src.Resolve(t.Context(), "")
				if err == nil {
					err = readAll(t, src, raw)
				}
				if err == nil {
					t.Error("nothing is wrong with what was saved")
				}
			})
		}
	}
}

// damageBlob cuts the archive in, or flips a byte of, the first layer.
func damageBlob(t *testing.T, raw []byte, isLayer func(member) bool, cut bool) []byte {
	t.Helper()
	for _, m := range members(t, raw) {
		if isLayer(m) {
			at := bytes.Index(raw, m.body) + len(m.body)/2
			if cut {
				return raw[:at]
			}
			out := slices.Clone(raw)
			out[at] ^= 0xff
			return out
		}
	}
	t.Fatal("no layer")
	return nil
}

// readAll reads what manifest raw lists.
func readAll(t *testing.T, src oci.Source, raw []byte) error {
	t.Helper()
	m, err := oci.ParseManifest("", raw)
	if err != nil {
		return err
	}
	for _, d := range m.Blobs() {
		rc, err := src.Fetch(t.Context(), d)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// TestPartsPass is that parts which aren't read are passed over, and that a part
// is read once, while it passes.
func TestPartsPass(t *testing.T) {
	for _, form := range forms {
		src := openSource(t, serve(t, &replay{form: loadForm(t, form)}))
		var last oci.Blob
		n := 0
		for b, err := range src.(oci.Streamer).Stream(t.Context(), "v1") {
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if last.Layer != oci.NoLayer && n > 0 {
				if _, err := last.Open(t.Context()); err == nil {
					t.Errorf("%s: opened a part that is past", form)
				}
			}
			last = b
			n++
		}
		if n < 4 {
			t.Errorf("%s: %d parts", form, n)
		}
		for b, err := range src.(oci.Streamer).Stream(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if b.Layer == oci.NoLayer {
				continue
			}
			if _, err := b.Open(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := b.Open(t.Context()); err == nil {
				t.Errorf("%s: opened twice", form)
			}
			break
		}
		if got := readStream(t, src); len(got.layers) != 3 {
			t.Errorf("%s: after a break: %d layers", form, len(got.layers))
		}
	}
}

func TestCancelledStream(t *testing.T) {
	src := openSource(t, serve(t, &replay{form: loadForm(t, "podman-4.3")}))
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var got error
	for b, err := range src.(oci.Streamer).Stream(ctx, "") {
		if err != nil {
			got = err
			break
		}
		rc, err := b.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel(gone)
		if _, err := io.ReadAll(rc); !errors.Is(err, gone) {
			t.Errorf("read: %v", err)
		}
	}
	if !errors.Is(got, gone) {
		t.Errorf("stream: %v", got)
	}
	if _, _, err := src.Resolve(ctx, ""); !errors.Is(err, gone) {
		t.Errorf("resolve: %v", err)
	}
}

// TestInspections is that what a daemon says is held against its form.
func TestInspections(t *testing.T) {
	tests := []struct {
		name, inspect string
		status        int
		want          error
	}{
		{"no JSON", `<html>`, 0, oci.ErrInvalid},
		{"no ID", `{"Id":"abc"}`, 0, oci.ErrInvalid},
		{"no diffIDs", `{"Id":"sha256:` + strings.Repeat("0", 64) + `","RootFS":{"Layers":["../x"]}}`, 0, oci.ErrInvalid},
		{"no manifest", `{"Id":"sha256:` + strings.Repeat("0", 64) + `","Descriptor":{"digest":"sha256:../x"}}`, 0, oci.ErrInvalid},
		{"too many", `{"Id":"sha256:` + strings.Repeat("0", 64) + `","RootFS":{"Layers":[` + strings.Repeat(`"",`, 20_000) + `""]}}`, 0, oci.ErrTooLarge},
		{"not there", `{"message":"No such image"}`, http.StatusNotFound, oci.ErrNotFound},
		{"forbidden", `{"message":"plugin says no"}`, http.StatusForbidden, oci.ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := openSource(t, serve(t, &replay{form: form{Inspect: []byte(tt.inspect)}, status: tt.status}))
			for _, err := range []error{
				second(src.Head(t.Context(), "")),
				third(src.(oci.Describer).Describe(t.Context(), "")),
				second(tryStream(t, src)),
			} {
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "example.com/small:v1") {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func TestNoDaemon(t *testing.T) {
	src := openSource(t, "daemon://busybox?socket="+t.TempDir()+"/none")
	if _, err := src.Head(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "there is no socket; is the daemon running?") || !strings.Contains(err.Error(), "busybox") {
		t.Errorf("got %v", err)
	}
}

// TestLoadAnswers is what counts when a daemon has taken an archive.
func TestLoadAnswers(t *testing.T) {
	img := small(t)
	good := loadForm(t, "docker-20.10")
	other := good
	other.Inspect = bytes.Replace(good.Inspect, []byte(img.config.Desc.Digest), []byte("sha256:"+strings.Repeat("1", 64)), 1)
	otherLayers := loadForm(t, "docker-modern-containerd")
	otherLayers.Inspect = bytes.Replace(otherLayers.Inspect, []byte(img.layers[1].DiffID), []byte("sha256:"+strings.Repeat("1", 64)), 1)
	tests := []struct {
		name string
		r    replay
		want string
	}{
		{"good", replay{form: good, load: `{"stream":"Loaded image: x"}`}, ""},
		{"good, containerd", replay{form: loadForm(t, "docker-modern-containerd"), load: `{"stream":"Loaded image: x"}`}, ""},
		{"error behind good news", replay{form: good, load: `{"stream":"Loading"}` + "\n" + `{"errorDetail":{"message":"no space left"},"error":"no space left"}`}, "no space left"},
		{"another image", replay{form: other, load: `{}`}, "another program has changed it"},
		{"other layers", replay{form: otherLayers, load: `{}`}, "other layers"},
		{"nothing under the name", replay{form: good, status: http.StatusNotFound, load: `{}`}, "now has none called"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uri := serve(t, &tt.r)
			dest := openTarget(t, uri).image(t, "team/app:v3")
			root := img.put(t, dest)
			err := dest.Commit(t.Context(), root, root)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var list []struct{ RepoTags []string }
			for _, m := range members(t, tt.r.loaded) {
				if m.h.Name == "manifest.json" && json.Unmarshal(m.body, &list) != nil {
					t.Errorf("%s", m.body)
				}
			}
			if len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"example.com/small:v1"}) {
				t.Errorf("loaded %+v", list)
			}
		})
	}
}

func TestIncompleteImages(t *testing.T) {
	img := small(t)
	img.layers = img.layers[:2]
	r := replay{form: loadForm(t, "podman-4.3")}
	dest := openTarget(t, serve(t, &r)).image(t, "a:b")
	root := img.put(t, dest)
	if err := dest.Commit(t.Context(), root, root); !errors.Is(err, oci.ErrNotFound) || r.loaded != nil {
		t.Errorf("got %v, and %d bytes were sent", err, len(r.loaded))
	}
	if _, err := dest.PutManifest(t.Context(), []byte(`{"schemaVersion":2,"manifests":[]}`), oci.MediaTypeIndex); !errors.Is(err, oci.ErrUnsupported) {
		t.Errorf("an index: %v", err)
	}
}
