package layer_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

func tarOf(t testing.TB, name, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))})
	if err == nil {
		_, err = io.WriteString(w, body)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z)
	if err == nil {
		_, err = w.Write(b)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// frame makes a zstd frame with a window of 2^windowLog bytes and n blocks that
// are 128 KiB of zeros each, in 4 bytes.
func frame(windowLog, n int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(windowLog-10) << 3}
	for i := range n {
		header := uint32(128<<10)<<3 | 1<<1
		if i == n-1 {
			header |= 1
		}
		var h [4]byte
		binary.LittleEndian.PutUint32(h[:], header) // three bytes, then the zero that is repeated
		b = append(b, h[:]...)
	}
	return b
}

func read(blob io.Reader, opt layer.Options) (layer.Codec, []byte, error) {
	r, err := layer.Open(blob, opt)
	if err != nil {
		return "", nil, err
	}
	got, err := io.ReadAll(r)
	return r.Codec(), got, errors.Join(err, r.Close())
}

func TestOpen(t *testing.T) {
	plain := tarOf(t, "etc/motd", strings.Repeat("hello ", 40_000))
	half := len(plain) / 2
	zeros := make([]byte, 3<<20)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	skippable := []byte{0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
	corrupt := gz(t, plain)
	corrupt[len(corrupt)/2] ^= 0x55
	tests := []struct {
		name  string
		in    []byte
		opt   layer.Options
		codec layer.Codec
		want  []byte
		kind  error
	}{
		{"plain", plain, layer.Options{}, layer.None, plain, nil},
		{"gzip", gz(t, plain), layer.Options{}, layer.Gzip, plain, nil},
		{"zstd", zst(t, plain), layer.Options{}, layer.Zstd, plain, nil},
		{"empty", nil, layer.Options{}, layer.None, nil, nil},
		{"a few bytes", []byte("abc"), layer.Options{}, layer.None, []byte("abc"), nil},
		{"gzip of several members, an empty one too", join(gz(t, plain[:half]), gz(t, nil), gz(t, plain[half:])), layer.Options{}, layer.Gzip, plain, nil},
		{"zstd of several frames", join(skippable, zst(t, plain[:half]), skippable, zst(t, plain[half:])), layer.Options{}, layer.Zstd, plain, nil},
		{"gzip in gzip is opened once", gz(t, gz(t, plain)), layer.Options{}, layer.Gzip, gz(t, plain), nil},
		{"gzip with garbage behind", join(gz(t, plain), []byte("garbage")), layer.Options{}, layer.Gzip, nil, oci.ErrInvalid},
		{"zstd with garbage behind", join(zst(t, plain), []byte("garbage")), layer.Options{}, layer.Zstd, nil, oci.ErrInvalid},
		{"gzip cut off", gz(t, plain)[:200], layer.Options{}, layer.Gzip, nil, oci.ErrInvalid},
		{"zstd cut off", zst(t, plain)[:20], layer.Options{}, layer.Zstd, nil, oci.ErrInvalid},
		{"gzip's magic alone", []byte{0x1f, 0x8b}, layer.Options{}, "", nil, oci.ErrInvalid},
		{"gzip corrupt", corrupt, layer.Options{}, layer.Gzip, nil, oci.ErrInvalid},
		{"xz", []byte("\xfd7zXZ\x00and more"), layer.Options{}, "", nil, oci.ErrUnsupported},
		{"bzip2", []byte("BZh91AY&SYand more"), layer.Options{}, "", nil, oci.ErrUnsupported},
		{"a tar whose first file is named BZh9", tarOf(t, "BZh9", "x"), layer.Options{}, layer.None, tarOf(t, "BZh9", "x"), nil},
		{"as much as allowed", gz(t, zeros), layer.Options{MaxBytes: 3 << 20}, layer.Gzip, zeros, nil},
		{"a byte over the limit", gz(t, zeros), layer.Options{MaxBytes: 3<<20 - 1}, layer.Gzip, nil, oci.ErrTooLarge},
		{"a byte over the limit, plain", plain, layer.Options{MaxBytes: int64(len(plain)) - 1}, layer.None, nil, oci.ErrTooLarge},
		{"zstd window of 64 MiB", frame(26, 1), layer.Options{}, layer.Zstd, make([]byte, 128<<10), nil},
		{"zstd window of 1 GiB", frame(30, 1), layer.Options{}, "", nil, oci.ErrTooLarge},
		{"zstd window of 2 TiB", frame(41, 1), layer.Options{}, "", nil, oci.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// One byte at a time too: what is sniffed may come in pieces.
			for _, in := range []io.Reader{bytes.NewReader(tt.in), oneByte{bytes.NewReader(tt.in)}} {
				codec, got, err := read(in, tt.opt)
				if !errors.Is(err, tt.kind) || (tt.kind == nil) != (err == nil) {
					t.Fatalf("got %v, want %v", err, tt.kind)
				}
				if err == nil && (codec != tt.codec || !bytes.Equal(got, tt.want)) {
					t.Errorf("got %s, %d bytes, want %s, %d bytes", codec, len(got), tt.codec, len(tt.want))
				}
			}
		})
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// TestBomb: 512 bytes that become 16 MiB, and zeros in gzip.
func TestBomb(t *testing.T) {
	for name, bomb := range map[string][]byte{"zstd": frame(23, 128), "gzip": gz(t, make([]byte, 16<<20))} {
		for _, tt := range []struct {
			opt  layer.Options
			want error
		}{
			{layer.Options{RatioFrom: 8 << 20}, oci.ErrTooLarge},
			{layer.Options{RatioFrom: 8 << 20, MaxRatio: -1}, nil},
			{layer.Options{}, nil}, // too small to be one
		} {
			r, err := layer.Open(bytes.NewReader(bomb), tt.opt)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, r)
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, %+v: %d bytes, %v, want %v", name, tt.opt, n, err, tt.want)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTheDigestIsChecked: a tar ends before its blob does, and what a decoder
// doesn't look at is part of the blob too.
func TestTheDigestIsChecked(t *testing.T) {
	plain := tarOf(t, "etc/motd", "hello")
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "plain": plain} {
		t.Run(name, func(t *testing.T) {
			for _, d := range []oci.Descriptor{
				{Digest: digest.FromString("something else"), Size: int64(len(blob))},
				{Digest: digest.FromString("something else"), Size: -1},
				{Digest: digest.FromBytes(append(bytes.Clone(blob), 'x')), Size: int64(len(blob)) + 1},
			} {
				r, err := layer.Open(oci.Verify(io.NopCloser(bytes.NewReader(blob)), d), layer.Options{})
				if err == nil {
					tr := tar.NewReader(r)
					for err == nil {
						_, err = tr.Next()
					}
					if errors.Is(err, io.EOF) {
						_, err = io.Copy(io.Discard, r)
					}
					r.Close()
				}
				if !errors.Is(err, oci.ErrDigestMismatch) {
					t.Errorf("size %d: got %v, want a digest mismatch", d.Size, err)
				}
			}
		})
	}
}

func TestTheBlobsOwnError(t *testing.T) {
	own := errors.New("connection reset by peer")
	for name, blob := range map[string][]byte{"gzip": gz(t, tarOf(t, "a", "b")), "zstd": zst(t, tarOf(t, "a", "b")), "plain": tarOf(t, "a", "b"), "nothing": nil} {
		in := io.MultiReader(bytes.NewReader(blob[:len(blob)/2]), failing{own})
		if _, _, err := read(in, layer.Options{}); !errors.Is(err, own) || errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, want the blob's error as it is", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestClose(t *testing.T) {
	r, err := layer.Open(bytes.NewReader(gz(t, tarOf(t, "a", "b"))), layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a closed layer gives bytes: its decoder may be another's by now")
	}
}

// TestDecodersAreReused opens layers of both codecs at once, some of them
// damaged, some closed early.
func TestDecodersAreReused(t *testing.T) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 30 {
				want := tarOf(t, fmt.Sprintf("%d/%d", w, n), strings.Repeat("x", 1000*n))
				blob := gz(t, want)
				if n%2 == 0 {
					blob = zst(t, want)
				}
				if n%5 == 0 {
					_, _, _ = read(bytes.NewReader(blob[:len(blob)/2]), layer.Options{})
				}
				if _, got, err := read(bytes.NewReader(blob), layer.Options{}); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d/%d: %d of %d bytes, %v", w, n, len(got), len(want), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCodecOf(t *testing.T) {
	for mt, want := range map[string]layer.Codec{
		"application/vnd.oci.image.layer.v1.tar":                       layer.None,
		"application/vnd.oci.image.layer.v1.tar+gzip":                  layer.Gzip,
		"application/vnd.oci.image.layer.v1.tar+zstd":                  layer.Zstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": layer.Gzip,
		"application/vnd.docker.image.rootfs.diff.tar":                 layer.None,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            layer.Gzip,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            layer.Zstd,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    layer.Gzip,
		"application/vnd.cncf.helm.chart.content.v1.tar+gzip":          layer.Gzip,
		"application/vnd.oci.image.config.v1+json":                     "",
		"application/vnd.in-toto+json":                                 "",
		"":                                                             "",
	} {
		if got, ok := layer.CodecOf(mt); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", mt, got, ok, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	plain := tarOf(f, "a", "b")
	for _, b := range [][]byte{plain, gz(f, plain), zst(f, plain), frame(23, 3), {0x1f, 0x8b}, []byte("BZh91AY&SY")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 1 << 20
		codec, got, err := read(bytes.NewReader(in), layer.Options{MaxBytes: most})
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrTooLarge) && !errors.Is(err, oci.ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if len(got) > most || codec == layer.None && !bytes.Equal(got, in) {
			t.Fatalf("%s: %d bytes became %d", codec, len(in), len(got))
		}
	})
}
