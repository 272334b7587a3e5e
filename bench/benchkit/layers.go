package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// memLayer is a gzip layer held in memory.
type memLayer struct {
	comp           []byte
	digest, diffID v1.Hash
	mt             types.MediaType
}

func (l *memLayer) Digest() (v1.Hash, error) { return l.digest, nil }
func (l *memLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }
func (l *memLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.comp)), nil
}
func (l *memLayer) Uncompressed() (io.ReadCloser, error) {
	return gzip.NewReader(bytes.NewReader(l.comp))
}
func (l *memLayer) Size() (int64, error)                { return int64(len(l.comp)), nil }
func (l *memLayer) MediaType() (types.MediaType, error) { return l.mt, nil }

// pools are content that all layers share: text compresses about 3.5x, binary
// about 2x. Random data does not compress and is drawn for each file.
type pools struct {
	seed      uint64
	text, bin []byte
}

// newPools makes the content that seed stands for.
func newPools(seed uint64) *pools {
	p := &pools{seed: seed}
	r := rand.New(rand.NewPCG(seed, 1))
	syl := []string{"con", "tain", "er", "re", "gis", "try", "lay", "im", "age", "ma", "ni", "fest", "the", "of", "in", "to", "if", "get", "set", "int", "str", "buf", "ret", "urn", "fun", "def", "val", "key", "x", "y", "_", "io"}
	words := make([]string, 6000)
	for i := range words {
		n := 1 + r.IntN(4)
		for j := 0; j < n; j++ {
			words[i] += syl[r.IntN(len(syl))]
		}
	}
	z := rand.NewZipf(r, 1.15, 4, uint64(len(words)-1))
	seps := []string{" ", " ", " ", " ", ", ", "\n    ", ".\n", " = ", "(", ")\n\t"}
	var b bytes.Buffer
	for b.Len() < 16<<20 {
		b.WriteString(words[z.Uint64()])
		b.WriteString(seps[r.IntN(len(seps))])
		if r.IntN(40) == 0 {
			fmt.Fprintf(&b, "0x%08x", r.Uint32())
		}
	}
	p.text = b.Bytes()
	// "machine code": short opcodes from a skewed set, with random operands
	ops := make([][]byte, 300)
	for i := range ops {
		o := make([]byte, 2+r.IntN(6))
		for j := range o {
			o[j] = byte(r.Uint32())
		}
		ops[i] = o
	}
	zo := rand.NewZipf(r, 1.1, 6, uint64(len(ops)-1))
	p.bin = make([]byte, 0, 16<<20+64)
	for len(p.bin) < 16<<20 {
		p.bin = append(p.bin, ops[zo.Uint64()]...)
		switch r.IntN(4) {
		case 0:
			v := r.Uint32()
			p.bin = append(p.bin, byte(v), byte(v>>8), 0, 0)
		case 1:
			v := r.Uint64()
			p.bin = append(p.bin, byte(v), byte(v>>8), byte(v>>16))
		}
	}
	return p
}

// pick fills dst with pieces of pool.
func pick(dst []byte, pool []byte, r *rand.Rand) {
	for len(dst) > 0 {
		n := min(len(dst), 2048+r.IntN(16384))
		off := r.IntN(len(pool) - n)
		copy(dst[:n], pool[off:off+n])
		dst = dst[n:]
	}
}

// layer makes the layer id, the same for each seed, of about target bytes of
// gzip. The first error of its writers ends it.
func (p *pools) layer(id uint64, target int, small bool, mt types.MediaType) (*memLayer, error) {
	r := rand.New(rand.NewPCG(p.seed, id))
	var seedb [32]byte
	for i := range seedb {
		seedb[i] = byte(r.Uint32())
	}
	cc := rand.NewChaCha8(seedb)
	var out bytes.Buffer
	out.Grow(target + target/8 + 4096)
	zw, err := gzip.NewWriterLevel(&out, 6)
	if err != nil {
		return nil, err
	}
	uh := sha256.New()
	tw := tar.NewWriter(io.MultiWriter(zw, uh))
	base := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	top := []string{"usr/lib", "usr/share", "usr/bin", "opt/app", "etc", "var/lib", "usr/share/doc", "usr/local/lib/python3/site-packages"}
	seen := map[string]bool{}
	var lastFile string
	dir := ""
	buf := make([]byte, 0, 1<<20)
	mtime := func() time.Time { return time.Unix(base+int64(r.IntN(60_000_000)), 0) }
	put := func(h *tar.Header, body []byte) {
		if err == nil {
			err = tw.WriteHeader(h)
		}
		if err == nil {
			_, err = tw.Write(body)
		}
	}
	mkdirs := func(d string) {
		at := ""
		for part := range strings.SplitSeq(d, "/") {
			at = path.Join(at, part)
			if !seen[at] {
				seen[at] = true
				put(&tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: 0o755, ModTime: mtime()}, nil)
			}
		}
	}
	for i := 0; out.Len() < target && err == nil; i++ {
		if i%24 == 0 {
			d := top[r.IntN(len(top))]
			for k := r.IntN(4); k >= 0; k-- {
				d += fmt.Sprintf("/%s%d", []string{"pkg", "mod", "core", "data", "locale", "test"}[r.IntN(6)], r.IntN(40))
			}
			dir = fmt.Sprintf("%s/l%x", d, id&0xffff)
			mkdirs(dir)
		}
		fn := fmt.Sprintf("%s/file-%05d.%s", dir, i, []string{"py", "so", "txt", "h", "json", "pyc", "html"}[r.IntN(7)])
		switch {
		case lastFile != "" && r.IntN(25) == 0:
			put(&tar.Header{Typeflag: tar.TypeSymlink, Name: fn, Linkname: path.Base(lastFile), Mode: 0o777, ModTime: mtime()}, nil)
			continue
		case lastFile != "" && r.IntN(60) == 0:
			put(&tar.Header{Typeflag: tar.TypeLink, Name: fn, Linkname: lastFile, Mode: 0o644, ModTime: mtime()}, nil)
			continue
		}
		// log-normal sizes: median ~5 KB, heavy tail
		size := int(math.Exp(8.5 + 1.4*r.NormFloat64()))
		if !small && r.IntN(800) == 0 {
			size = 2<<20 + r.IntN(8<<20)
		}
		if m := max(target/3, 1024); size > m {
			size = m
		}
		if cap(buf) < size {
			buf = make([]byte, 0, size*2)
		}
		buf = buf[:size]
		switch k := r.IntN(100); {
		case k < 50:
			pick(buf, p.text, r)
		case k < 88:
			pick(buf, p.bin, r)
		default:
			_, _ = cc.Read(buf) // never fails
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fn, Size: int64(size), Mode: 0o644, ModTime: mtime()}
		if r.IntN(10) == 0 {
			h.Mode = 0o755
		}
		put(h, buf)
		lastFile = fn
		if (small || i%8 == 0) && err == nil {
			err = zw.Flush()
		}
	}
	if err := errors.Join(err, tw.Close(), zw.Close()); err != nil {
		return nil, err
	}
	ch := sha256.Sum256(out.Bytes())
	return &memLayer{comp: out.Bytes(), mt: mt,
		digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(ch[:])},
		diffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(uh.Sum(nil))}}, nil
}

// buildImage makes an image of layers whose config names repo.
func buildImage(repo, arch string, oci bool, layers []*memLayer) (v1.Image, error) {
	img := empty.Image
	if oci {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	var adds []mutate.Addendum
	created := v1.Time{Time: time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)}
	for i, l := range layers {
		adds = append(adds, mutate.Addendum{Layer: l, History: v1.History{Created: created, CreatedBy: fmt.Sprintf("RUN step %d", i)}})
	}
	img, err := mutate.Append(img, adds...)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Created = "linux", arch, created
	cf.Config.Labels = map[string]string{"org.opencontainers.image.title": repo, "org.opencontainers.image.version": "1.0", "com.example.repo": repo}
	cf.Config.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "REPO=" + repo}
	cf.Config.Cmd = []string{"/bin/sh"}
	return mutate.ConfigFile(img, cf)
}
