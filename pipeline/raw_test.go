package pipeline_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// tarOf makes a tar of one file.
func tarOf(t *testing.T, name, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdLayer(t *testing.T, raw []byte) imagetest.Layer {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := imagetest.Blob(ocispec.MediaTypeImageLayerZstd, w.EncodeAll(raw, nil))
	l.DiffID = digest.FromBytes(raw)
	return l
}

func TestRawPlaceGetsPlainTar(t *testing.T) {
	plain, zst, gz := tarOf(t, "plain", "p"), tarOf(t, "zstd", "z"), tarOf(t, "gzip", "g")
	img := imagetest.New(imagetest.Linux, nil,
		imagetest.Blob(ocispec.MediaTypeImageLayer, plain), zstdLayer(t, zst), imagetest.Gzip(gz), imagetest.Gzip(gz))
	far := newFar(t)
	item := far.push(t, "org/app", "v1", img)
	way := far.image(t, item, openTarget(t, "dir://"+t.TempDir()+"/x", far.env()), far.host)
	r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
	if r.Status != oci.StatusCopied || !r.Verified || r.Layers != 4 || r.Digest != img.Desc.Digest {
		t.Errorf("got %+v, want four layers copied and verified", r)
	}
	for _, want := range [][]byte{plain, zst, gz} {
		got, err := read(t.Context(), way.Dest, oci.Descriptor{Digest: digest.FromBytes(want), Size: int64(len(want))})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v, want the plain tar", len(got), err)
		}
	}
	if r := copyImage(t, far.image(t, item, openTarget(t, "dir://"+t.TempDir()+"/y", far.env()), far.host), pipeline.Options{DryRun: true}); r.Status != oci.StatusPlanned || r.BytesMoved == 0 {
		t.Errorf("dry run: got %+v, want a plan with bytes", r)
	}
}

func read(ctx context.Context, src oci.Source, d oci.Descriptor) ([]byte, error) {
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func TestRawPlaceRefuses(t *testing.T) {
	good := imagetest.Gzip(tarOf(t, "a", "a"))
	lying := good
	lying.DiffID = digest.FromString("something else")
	fewer := imagetest.New(imagetest.Linux, nil, good)
	var m ocispec.Manifest
	if err := json.Unmarshal(fewer.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m.Layers = append(m.Layers, m.Layers[0])
	chart := imagetest.New(imagetest.Linux, nil, good)
	c := m
	c.Layers = c.Layers[:1]
	c.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
	tests := []struct {
		name string
		img  imagetest.Image
		kind error
		text string
	}{
		{"diffID is not the layer's", imagetest.New(imagetest.Linux, nil, lying), oci.ErrDigestMismatch, string(lying.DiffID)},
		{"more layers than diffIDs", remake(t, fewer, m), oci.ErrInvalid, "2 layers, but 1 diff_ids"},
		{"artifact", remake(t, chart, c), oci.ErrUnsupported, "artifact (application/vnd.cncf.helm.config.v1+json)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			far := newFar(t)
			way := far.image(t, far.push(t, "org/app", "v1", tt.img), openTarget(t, "dir://"+t.TempDir()+"/x", far.env()), far.host)
			_, err := pipeline.Copy(t.Context(), way, pipeline.Options{})
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %q", err, tt.text)
			}
			if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("the image is visible: %v", err)
			}
		})
	}
}

// A layer whose plain tar is right, but whose stored bytes are not those of its
// digest, is refused: the stored stream is read to its end.
func TestRawPlaceChecksStoredBytesToo(t *testing.T) {
	l := imagetest.Gzip(tarOf(t, "a", "a"))
	img := imagetest.New(imagetest.Linux, nil, l)
	far := newFar(t)
	item := far.push(t, "org/app", "v1", img)
	other := bytes.Clone(l.Bytes)
	other[9]++ // gzip's OS field, which decompressors don't look at
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+string(l.Desc.Digest)) {
			return false
		}
		_, _ = w.Write(other)
		return true
	})
	way := far.image(t, item, openTarget(t, "dir://"+t.TempDir()+"/x", far.env()), far.host)
	if _, err := pipeline.Copy(t.Context(), way, pipeline.Options{}); !errors.Is(err, oci.ErrDigestMismatch) || !strings.Contains(err.Error(), string(l.Desc.Digest)) {
		t.Errorf("got %v, want a mismatch of the stored blob", err)
	}
}
