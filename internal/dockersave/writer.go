package dockersave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A Writer gathers configs and layers, and makes an archive of them. It costs
// disk and no memory: what is put is spooled into files without a name. It is
// safe for concurrent use.
type Writer struct {
	spool *spool.Lanes

	mu    sync.Mutex
	blobs map[oci.Digest]*blob
}

// blob is a config or a layer as it will be in the archive.
type blob struct {
	size int64
	open func() (*io.SectionReader, error) // in a file
	free func()                            // gives its space back; nil if that is not ours
}

// NewWriter gives an empty writer that spools in folder dir, "" for
// [os.TempDir]. It touches nothing before the first [Writer.PutBlob].
func NewWriter(dir string) *Writer {
	return &Writer{spool: &spool.Lanes{Dir: dir, What: "docker archive"}, blobs: map[oci.Digest]*blob{}}
}

// PutBlob stores a config (Layer [oci.NoLayer]) or a layer as plain tar, whose
// digest is its diffID. A layer that comes compressed is an error matching
// [oci.ErrInvalid]. What is there already is read no more.
func (w *Writer) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if b.Desc.Digest == "" {
		b.Desc.Digest = b.DiffID
	}
	if was := w.blob(b.Desc.Digest); was != nil {
		b.Desc.Size = was.size
		return b.Desc, nil
	}
	var s *spool.Section
	d, err := stage.Attempt(ctx, b, func(r io.Reader) (err error) {
		s, err = w.spool.Add(ctx, r)
		return err
	})
	if err != nil {
		return d, err
	}
	if err := w.keep(d, s, b.Layer != oci.NoLayer); err != nil {
		s.Free()
		return oci.Descriptor{}, err
	}
	return d, nil
}

func (w *Writer) keep(d oci.Descriptor, s *spool.Section, isLayer bool) error {
	if isLayer {
		r, err := s.Open()
		if err != nil {
			return err
		}
		head := make([]byte, 16)
		n, err := io.ReadFull(r, head)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if c, err := layer.Sniff(head[:n]); err != nil || c != layer.None {
			return fmt.Errorf("%w: a layer in %s where a plain tar should be", oci.ErrInvalid, c)
		}
	} else if d.Size > maxConfig {
		return fmt.Errorf("config of %d bytes: %w", d.Size, oci.ErrTooLarge)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blobs[d.Digest] != nil { // somebody was faster
		s.Free()
		return nil
	}
	w.blobs[d.Digest] = &blob{s.Size(), s.Open, s.Free}
	return nil
}

func (w *Writer) blob(d oci.Digest) *blob {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blobs[d]
}

// Adopt takes the config and the layers of an image in another archive, which
// must stay open, without copying them yet. false: it has a compressed layer, or
// can't be read.
func (w *Writer) Adopt(i *Image) bool {
	p, err := i.load()
	if err != nil {
		return false
	}
	m, err := i.archive.file.Lookup(i.Entry.Config)
	if err != nil {
		return false
	}
	for _, l := range p.layers {
		if l.codec != layer.None {
			return false
		}
	}
	w.adopt(p.desc.Digest, m.Size, m.Open)
	for n, l := range p.layers {
		w.adopt(p.ids[n], l.member.Size, l.member.Open)
	}
	return true
}

func (w *Writer) adopt(d oci.Digest, size int64, open func() *io.SectionReader) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blobs[d] == nil {
		w.blobs[d] = &blob{size: size, open: func() (*io.SectionReader, error) { return open(), nil }}
	}
}

// Has reports whether d was put or adopted. A size of 0 or less is not compared.
func (w *Writer) Has(d oci.Descriptor) bool {
	b := w.blob(d.Digest)
	return b != nil && (d.Size <= 0 || b.size == d.Size)
}

// Fetch opens what was put, as long as it isn't in an archive yet.
func (w *Writer) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	b := w.blob(d.Digest)
	if b == nil {
		return nil, oci.ErrNotFound
	}
	r, err := b.open()
	if err != nil {
		return nil, err
	}
	return oci.Verify(safepath.Within(ctx, io.NopCloser(r)), d), nil
}

// Entry makes the entry in manifest.json of the image with config, under the
// names tags. Its layers, those of the config's diff_ids, must be there.
func (w *Writer) Entry(config oci.Digest, tags []string, from *Origin) (Entry, error) {
	b := w.blob(config)
	if b == nil {
		return Entry{}, fmt.Errorf("config %s: %w", config, oci.ErrNotFound)
	}
	r, err := b.open()
	if err != nil {
		return Entry{}, err
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return Entry{}, err
	}
	ids, err := diffIDs(raw)
	if err != nil {
		return Entry{}, fmt.Errorf("config %s: %w: %w", config, oci.ErrInvalid, err)
	}
	e := Entry{Config: configName(config), RepoTags: tags, Layers: []string{}, Source: from}
	for n, id := range ids {
		if w.blob(id) == nil {
			return Entry{}, fmt.Errorf("layer %d, %s: %w", n, id, oci.ErrNotFound)
		}
		e.Layers = append(e.Layers, layerName(id))
	}
	return e, nil
}

// Close gives the disk back.
func (w *Writer) Close() error { return w.spool.Close() }

// configName and layerName give the members of a config and a layer.
func configName(d oci.Digest) string { return d.Encoded() + ".json" }

func layerName(d oci.Digest) string { return d.Encoded() + "/layer.tar" }
