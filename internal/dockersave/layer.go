package dockersave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// stored is a layer as it is in an archive. Several images, and several layers of
// one, may share it.
type stored struct {
	member tarfile.Member
	codec  layer.Codec

	mu    sync.Mutex // held while a pass finds plain
	plain int64      // bytes of the tar; -1: not known yet
	id    oci.Digest // that the pass has seen
}

// layer gives the layer in the member called name.
func (a *Archive) layer(name string) (*stored, error) {
	m, err := a.file.Lookup(name)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.layers[m.Name]; l != nil {
		return l, nil
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(m.Open(), head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	l := &stored{member: m, plain: -1}
	if l.codec, err = layer.Sniff(head[:n]); err != nil {
		return nil, fmt.Errorf("%.200q: %w", name, err)
	}
	if l.codec == layer.None {
		l.plain = m.Size
	}
	a.layers[m.Name] = l
	return l, nil
}

// known reports whether the size of the tar is known.
func (l *stored) known() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plain >= 0
}

// plainSize gives the bytes of the tar. To learn them the first call for a
// compressed layer reads it, and checks that its diffID is id.
func (l *stored) plainSize(ctx context.Context, id oci.Digest) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plain >= 0 && (l.codec == layer.None || l.id == id) {
		return l.plain, nil
	}
	rc, err := l.read(ctx, oci.Descriptor{Digest: id, Size: -1})
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, rc, make([]byte, 128<<10))
	if err := errors.Join(err, rc.Close()); err != nil {
		return 0, err
	}
	l.plain, l.id = n, id
	return n, nil
}

// open opens the tar, which d describes.
func (l *stored) open(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if d.Size >= 0 && l.codec == layer.None && d.Size != l.member.Size {
		return nil, fmt.Errorf("%.200q: %w: %d bytes, its descriptor says %d", l.member.Name, oci.ErrDigestMismatch, l.member.Size, d.Size)
	}
	return l.read(ctx, d)
}

func (l *stored) read(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	rc := safepath.Within(ctx, io.NopCloser(l.member.Open()))
	if l.codec != layer.None {
		z, err := layer.Open(rc, layer.Options{})
		if err != nil {
			return nil, err
		}
		rc = z
	}
	return oci.Verify(rc, d), nil
}
