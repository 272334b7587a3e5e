package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// layers knows which layer.tar are whole: those that this run has written or
// hashed, and those that our manifests vouch for. All others may be what another
// program left half written.
type layers struct {
	place *place
	vouch sync.Once // readManifests

	mu    sync.Mutex
	size  map[string]int64 // by file
	whole map[string]bool  // read back and hashed by this run
}

func (l *layers) readManifests(ctx context.Context) {
	all := map[string]int64{}
	if root, err := l.place.stage.Root(); err == nil {
		// What can't be read vouches for nothing.
		c, _ := l.place.readCatalog(root)
		for _, v := range c {
			tags, _ := v.(map[string]any)
			for _, file := range tags {
				if ctx.Err() != nil {
					break // what isn't read vouches for nothing
				}
				name, _ := file.(string)
				if m, err := readManifest(root, name); err == nil {
					maps.Copy(all, m.sizes())
				}
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(all, l.size) // what this run wrote is newer
	l.size = all
}

// wrote says that file is new, hashed on its way, and has n bytes.
func (l *layers) wrote(file string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size[file] = n
	delete(l.whole, file)
}

func (l *layers) known(file string) (size int64, sized, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, sized = l.size[file]
	return size, sized, l.whole[file]
}

// has reports whether the layer with diffID d is there, and its bytes. Where
// nothing vouches for the file, it is hashed.
func (l *layers) has(ctx context.Context, d oci.Digest) (bool, int64, error) {
	l.vouch.Do(func() { l.readManifests(ctx) })
	file := layerPath(d)
	got, err := l.place.stage.Size(file)
	if err != nil || got < 0 {
		return false, 0, err
	}
	if want, sized, _ := l.known(file); sized {
		return got == want, got, nil
	}
	err = l.rehash(ctx, d)
	if errors.Is(err, oci.ErrDigestMismatch) {
		return false, 0, nil
	}
	return err == nil, got, err
}

// rehash reads the layer with diffID d, unless this run has seen its bytes.
func (l *layers) rehash(ctx context.Context, d oci.Digest) error {
	file := layerPath(d)
	if _, _, whole := l.known(file); whole {
		return nil
	}
	n, err := l.place.hash(ctx, file, d)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size[file], l.whole[file] = n, true
	return nil
}

// hash reads file and compares it with d.
func (p *place) hash(ctx context.Context, file string, d oci.Digest) (int64, error) {
	rc, err := p.open(ctx, file, oci.Descriptor{Digest: d, Size: -1})
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

// open opens file, which d describes, for a verified read that ends with ctx.
func (p *place) open(ctx context.Context, file string, d oci.Descriptor) (io.ReadCloser, error) {
	root, err := p.stage.Root()
	if err != nil {
		return nil, safepath.Missing(err)
	}
	return safepath.OpenBlob(ctx, root, file, d)
}
