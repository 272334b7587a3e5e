package layer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// oddTar is a tar of size bytes and some that no reader of tars would write
// again: a header of an old kind, and bytes behind the end.
func oddTar(size int) []byte {
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body[:size/2]) // the rest are zeros
	raw := imagetest.Tar(imagetest.Dir("a"), imagetest.File("a/b", string(body)))
	return slices.Concat(raw, make([]byte, 512), []byte("behind the end"))
}

func encoded(t *testing.T, c layer.Codec, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := layer.Encode(c, &out, bytes.NewReader(raw), false); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func decoded(t *testing.T, blob []byte) []byte {
	t.Helper()
	r, err := layer.Open(bytes.NewReader(blob), layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var codecs = []layer.Codec{layer.Gzip, layer.Zstd, layer.None}

func TestRecode(t *testing.T) {
	for _, size := range []int{0, 700, 3<<20 + 17} {
		raw := oddTar(size)
		for _, from := range codecs {
			blob := encoded(t, from, raw)
			d := oci.Descriptor{MediaType: from.MediaType(ocispec.MediaTypeImageLayer), Digest: digest.FromBytes(blob), Size: int64(len(blob)),
				Annotations: map[string]string{"containerd.io/snapshot/stargz/toc.digest": "x", "kept": "yes"}}
			for _, to := range codecs {
				var out bytes.Buffer
				got, err := layer.Recode(t.Context(), &out, oci.Verify(io.NopCloser(bytes.NewReader(blob)), d), d, layer.PassOptions{Codec: to})
				if err != nil {
					t.Fatalf("%s to %s: %v", from, to, err)
				}
				if !bytes.Equal(decoded(t, out.Bytes()), raw) {
					t.Errorf("%s to %s: the tar is another", from, to)
				}
				if got.DiffID != digest.FromBytes(raw) || got.TarSize != int64(len(raw)) || got.Source != (layer.Tar{DiffID: got.DiffID, Size: got.TarSize, Codec: from}) || got.Unchanged != (from == to) {
					t.Errorf("%s to %s: %+v", from, to, got)
				}
				if got.Desc.Digest != digest.FromBytes(out.Bytes()) || got.Desc.Size != int64(out.Len()) || got.Desc.MediaType != to.MediaType(d.MediaType) || len(got.Desc.Annotations) != 1 {
					t.Errorf("%s to %s: %+v", from, to, got.Desc)
				}
				if !bytes.Equal(out.Bytes(), encoded(t, to, raw)) {
					t.Errorf("%s to %s: other bytes than of another codec's layer", from, to)
				}
			}
		}
	}
}

// The bytes are those that a Pass writes.
func TestRecodeCompressesAsPassDoes(t *testing.T) {
	raw := imagetest.Tar(imagetest.File("a", string(bytes.Repeat([]byte("layers of an image "), 200_000))))
	d := oci.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	for _, c := range codecs {
		var recoded, passed bytes.Buffer
		if _, err := layer.Recode(t.Context(), &recoded, bytes.NewReader(raw), d, layer.PassOptions{Codec: c}); err != nil {
			t.Fatal(err)
		}
		if _, err := layer.NewPass(d, nil, layer.PassOptions{Codec: c}).Run(t.Context(), &passed, bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(recoded.Bytes(), passed.Bytes()) {
			t.Errorf("%s: %d bytes, and a pass writes %d others", c, recoded.Len(), passed.Len())
		}
	}
}

func TestRecodeRefuses(t *testing.T) {
	raw := oddTar(100_000)
	gz := encoded(t, layer.Gzip, raw)
	d := oci.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(gz), Size: int64(len(gz))}
	cut, bent := gz[:len(gz)/2], slices.Clone(gz)
	bent[len(bent)/3] ^= 1
	lying := d
	lying.Digest = digest.FromString("another")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	full := errors.New("disk full")
	tests := []struct {
		name string
		ctx  context.Context
		blob []byte
		d    oci.Descriptor // "": the source checks nothing
		w    io.Writer
		opt  layer.PassOptions
		want error
	}{
		{name: "truncated", blob: cut, want: oci.ErrInvalid},
		{name: "truncated, verified", blob: cut, d: d, want: oci.ErrDigestMismatch},
		{name: "damaged", blob: bent, want: oci.ErrInvalid},
		{name: "damaged, verified", blob: bent, d: d, want: oci.ErrDigestMismatch},
		{name: "wrong digest", blob: gz, d: lying, want: oci.ErrDigestMismatch},
		{name: "bytes behind the end", blob: slices.Concat(gz, []byte("more")), want: oci.ErrInvalid},
		{name: "xz", blob: []byte("\xfd7zXZ\x00 and so on"), want: oci.ErrUnsupported},
		{name: "too large", blob: gz, opt: layer.PassOptions{Limits: layer.Options{MaxBytes: 50_000}}, want: oci.ErrTooLarge},
		{name: "a bomb", blob: encoded(t, layer.Gzip, make([]byte, 4<<20)), opt: layer.PassOptions{Limits: layer.Options{RatioFrom: 1 << 20}}, want: oci.ErrTooLarge},
		{name: "unknown codec", blob: gz, opt: layer.PassOptions{Codec: "lzma"}, want: oci.ErrUnsupported},
		{name: "canceled", ctx: canceled, blob: gz, want: context.Canceled},
		{name: "the writer fails", blob: gz, w: noRoom{full}, want: full},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			if tt.w == nil {
				tt.w = io.Discard
			}
			if tt.opt.Codec == "" {
				tt.opt.Codec = layer.Zstd
			}
			var src io.Reader = bytes.NewReader(tt.blob)
			if tt.d.Digest != "" {
				src = oci.Verify(io.NopCloser(src), tt.d)
			}
			if _, err := layer.Recode(tt.ctx, tt.w, src, d, tt.opt); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

type noRoom struct{ err error }

func (f noRoom) Write([]byte) (int, error) { return 0, f.err }

// A context that ends in the middle ends it, and leaves no goroutine in the way
// of the next layer.
func TestRecodeIsCanceled(t *testing.T) {
	raw := oddTar(8 << 20)
	for _, c := range codecs {
		ctx, cancel := context.WithCancel(t.Context())
		src := io.MultiReader(bytes.NewReader(raw[:4<<20]), readFunc(func([]byte) (int, error) { cancel(); return 1, nil }), bytes.NewReader(raw[4<<20:]))
		if _, err := layer.Recode(ctx, io.Discard, src, oci.Descriptor{}, layer.PassOptions{Codec: c}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c, err)
		}
		var out bytes.Buffer
		if _, err := layer.Recode(t.Context(), &out, bytes.NewReader(raw), oci.Descriptor{}, layer.PassOptions{Codec: c}); err != nil || !bytes.Equal(decoded(t, out.Bytes()), raw) {
			t.Errorf("%s: the next one: %v", c, err)
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
