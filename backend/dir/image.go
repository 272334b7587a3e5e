package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// An image is a [oci.Source] of one image in a folder. Its manifest is made up:
// the config's digest is that of the bytes that are there, the layers are those
// that the config's diff_ids name, each in the file that stands at its place in
// the folder's manifest.
//
// Our own folders keep a config's bytes. occystrap writes it anew, in Python's
// form, under the name of what it was: such a config counts as it is, so that the
// image's ID differs from that of the image it was made of. The user is told once.
type image struct {
	member
	images *images

	mu     sync.Mutex
	desc   oci.Descriptor // of raw; Digest is "" before made
	raw    []byte         // the made-up manifest
	config []byte
	files  map[oci.Digest]string // of layers, by diffID
}

// Resolve takes the image's tag or digest, "" for the image itself, and names of
// others in the folder.
func (i *image) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	d, raw, err := i.resolve(ctx, ref)
	if err != nil {
		return oci.Descriptor{}, nil, oci.Wrap(err, "read "+i.ref.String()+" in", i.images.path, oci.Descriptor{})
	}
	return d, raw, nil
}

func (i *image) resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	if ref == "" || ref == i.ref.Tag || ref == string(i.ref.Digest) {
		return i.made(ctx)
	}
	if d, raw, err := i.made(ctx); err == nil && ref == string(d.Digest) {
		return d, raw, nil
	}
	if oci.IsDigest(ref) {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w", ref, oci.ErrNotFound)
	}
	items, _ := i.images.items()
	item, err := layout.Pick(items, ref)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	other, err := i.images.find(func(o *image) bool { return o.ref == item.Ref })
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return other.made(ctx)
}

// Head is Resolve: there is no shorter way.
func (i *image) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := i.Resolve(ctx, ref)
	return d, err
}

// made makes the manifest up, once.
func (i *image) made(ctx context.Context) (oci.Descriptor, []byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.desc.Digest != "" {
		return i.desc, i.raw, nil
	}
	if i.err != nil {
		return oci.Descriptor{}, nil, i.err
	}
	config, d, err := i.readConfig()
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	ids, err := diffIDs(config)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w: %w", i.manifest.Config, oci.ErrInvalid, err)
	}
	if len(ids) != len(i.manifest.Layers) {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w: it lists %d layers, the config %d", i.file, oci.ErrInvalid, len(i.manifest.Layers), len(ids))
	}
	files, layers := map[oci.Digest]string{}, make([]oci.Descriptor, len(ids))
	for n, file := range i.manifest.Layers {
		size, err := i.tarSize(ctx, file)
		if err != nil {
			return oci.Descriptor{}, nil, fmt.Errorf("layer %d: %w", n, err)
		}
		files[ids[n]], layers[n] = file, oci.Descriptor{Digest: ids[n], Size: size}
	}
	desc, raw, err := layout.Synthetic(oci.Descriptor{Digest: d, Size: int64(len(config))}, layers)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %w", i.file, err)
	}
	i.desc, i.raw, i.config, i.files = desc, raw, config, files
	return desc, raw, nil
}

// inside returns an error matching [oci.ErrInvalid] unless name is a path
// beneath the folder.
func inside(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, '\\') || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("file name %.300q: %w", name, oci.ErrInvalid)
	}
	return nil
}

// readConfig gives the config and the digest of its bytes.
func (i *image) readConfig() ([]byte, oci.Digest, error) {
	file := i.manifest.Config
	if err := inside(file); err != nil {
		return nil, "", fmt.Errorf("%s: config: %w", i.file, err)
	}
	raw, _, err := safepath.ReadFile(i.images.root, file, maxConfigSize)
	if err != nil {
		return nil, "", safepath.Missing(err)
	}
	name := strings.TrimSuffix(path.Base(file), ".json")
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if d := a.FromBytes(raw); d.Encoded() == name {
			return raw, d, nil
		}
	}
	if i.manifest.Source != nil {
		return nil, "", fmt.Errorf("%s: %w: the bytes are others", file, oci.ErrDigestMismatch)
	}
	i.images.rewritten.Do(func() {
		i.images.env.Warnf("%s: configs are not the bytes that their names stand for, as occystrap writes them; image IDs differ from the originals'", i.images.path)
	})
	return raw, digest.FromBytes(raw), nil
}

// tarSize gives the bytes of the tar in file: those of the file, unless it is
// compressed, as some programs leave what a daemon gave them.
func (i *image) tarSize(ctx context.Context, file string) (int64, error) {
	f, size, codec, err := i.open(file)
	if err != nil || codec == layer.None {
		return size, errors.Join(err, closing(f))
	}
	f = safepath.Within(ctx, f)
	r, err := layer.Open(f, layer.Options{})
	if err == nil {
		size, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return size, nil
}

func closing(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// open opens a layer's file and says how it is compressed.
func (i *image) open(file string) (io.ReadCloser, int64, layer.Codec, error) {
	if err := inside(file); err != nil {
		return nil, 0, "", err
	}
	f, fi, err := safepath.Open(i.images.root, file)
	if err != nil {
		return nil, 0, "", safepath.Missing(err)
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, "", errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
	}
	codec := layer.None
	if n < len(head) || string(head[257:262]) != "ustar" { // a tar's first name may look like anything
		if codec, err = layer.Sniff(head[:n]); err != nil {
			return nil, 0, "", errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
		}
	}
	return f, fi.Size(), codec, nil
}

// Fetch opens the config, or a layer by its diffID.
func (i *image) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	_, _, err := i.made(ctx)
	if err != nil {
		return nil, oci.Wrap(err, "read blob", i.images.path, d)
	}
	file, isLayer := i.files[d.Digest]
	if !isLayer {
		if err := oci.ValidDigest(d.Digest); err != nil || d.Digest.Algorithm().FromBytes(i.config) != d.Digest {
			return nil, oci.Wrap(errors.Join(err, oci.ErrNotFound), "read blob", i.images.path, d)
		}
		return safepath.Within(ctx, oci.Verify(io.NopCloser(bytes.NewReader(i.config)), d)), nil
	}
	rc, err := i.openLayer(ctx, file, d)
	if err != nil {
		return nil, oci.Wrap(err, "read layer", path.Join(i.images.path, file), d)
	}
	return &named{rc, path.Join(i.images.path, file), d}, nil
}

// openLayer opens file for a verified read of the tar d.
func (i *image) openLayer(ctx context.Context, file string, d oci.Descriptor) (io.ReadCloser, error) {
	f, size, codec, err := i.open(file)
	if err != nil {
		return nil, err
	}
	f = safepath.Within(ctx, f)
	if codec == layer.None {
		if d.Size >= 0 && size != d.Size {
			return nil, errors.Join(fmt.Errorf("%w: %d bytes, its descriptor says %d", oci.ErrDigestMismatch, size, d.Size), f.Close())
		}
		return oci.Verify(f, d), nil
	}
	r, err := layer.Open(f, layer.Options{})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return oci.Verify(&both{r, f}, d), nil
}

// both reads r and closes what it reads from too.
type both struct {
	*layer.Reader
	below io.Closer
}

func (b *both) Close() error { return errors.Join(b.Reader.Close(), b.below.Close()) }

// named is a reader whose errors name the file.
type named struct {
	io.ReadCloser
	file string
	desc oci.Descriptor
}

func (n *named) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = oci.Wrap(err, "read layer", n.file, n.desc)
	}
	return k, err
}

// Checks makes it [oci.Checked].
func (n *named) Checks(d oci.Digest) bool { return oci.Checks(n.ReadCloser, d) }

// bytes sums the layer files, -1 where that isn't known without reading them.
func (i *image) bytes() int64 {
	if i.err != nil {
		return -1
	}
	var sum int64
	for _, file := range i.manifest.Layers {
		if inside(file) != nil {
			return -1
		}
		fi, err := safepath.Stat(i.images.root, file)
		if err != nil {
			return -1
		}
		sum += fi.Size()
	}
	return sum
}
