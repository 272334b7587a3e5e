package bulk

import (
	"context"
	"sync"

	"github.com/quaymaster/quaymaster/internal/blobcache"
	"github.com/quaymaster/quaymaster/oci"
)

// known is what earlier runs know of where blobs are at the destination. The nil
// one knows nothing.
type known struct {
	path string

	mu     sync.Mutex
	opened bool
	cache  *blobcache.Cache // nil where the file can't be used
}

func newKnown(path string) *known {
	if path == "" {
		return nil
	}
	return &known{path: path}
}

// of gives what is known of the registry that m writes to, nil for nothing. A file
// that can't be used is no reason not to copy.
func (n *known) of(m *mover) *blobcache.Cache {
	if n == nil || m.dry {
		return nil
	}
	if _, ok := m.dest.Destination.(oci.Mounter); !ok {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.opened {
		n.opened = true
		c, err := blobcache.Open(n.path, m.to.Registry)
		if err != nil {
			m.dest.warn(unusable{err})
			return nil
		}
		n.cache = c
	}
	return n.cache
}

// unusable is why a run goes on without a cache.
type unusable struct{ error }

func (u unusable) Error() string { return u.error.Error() + "; the run goes on without it" }

// save writes what the run found.
func (n *known) save(ctx context.Context) error {
	if n == nil || n.cache == nil {
		return nil
	}
	return n.cache.Save(ctx)
}

// knownAt gives the repository of m's registry from which d may be mounted by
// what earlier runs know, "" for none or if that is m's own: then to look there
// is right anyway.
func (m *mover) knownAt(d oci.Descriptor) string {
	c := m.known.of(m)
	if c == nil || m.mountState() == mountsRefused {
		return ""
	}
	from := ""
	for i, repository := range c.Repositories(d.Digest) {
		switch {
		case repository == m.to.Repository:
			return ""
		case i == 0:
			from = repository
		}
	}
	return from
}

// missed notes that d couldn't be mounted from repository.
func (m *mover) missed(d oci.Descriptor, repository string) {
	if c := m.known.of(m); c != nil {
		c.Missed(d.Digest, repository)
	}
}

// found notes that d is in m's repository.
func (m *mover) found(d oci.Descriptor) {
	if c := m.known.of(m); c != nil {
		c.Found(d, m.to.Repository)
	}
}
