package dockerpush

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// Limits of one push. Each blob is an open file.
const (
	maxUploads   = 64 // under way at once, or broken off
	maxBlobs     = 2000
	maxManifests = 64 << 20 // bytes of all, which are held in memory
)

// A store holds what a daemon pushes: blobs in files without a name, manifests in
// memory. It is safe for concurrent use.
type store struct {
	complete chan struct{} // closed when the root is there, which comes last
	// fail ends the push: a daemon that something was refused to would try again
	// and again, and say less of the reason than we know.
	fail context.CancelCauseFunc

	mu        sync.Mutex
	blobs     map[oci.Digest]blob
	uploads   map[string]*upload
	manifests map[oci.Digest]manifest
	bytes     int // of manifests
	rootIs    oci.Digest
	closed    bool
}

type blob struct {
	file *os.File
	size int64
}

type manifest struct {
	desc oci.Descriptor
	raw  []byte
}

func newStore(fail context.CancelCauseFunc) *store {
	return &store{
		complete: make(chan struct{}), fail: fail, blobs: map[oci.Digest]blob{},
		uploads: map[string]*upload{}, manifests: map[oci.Digest]manifest{},
	}
}

// refuse ends the push because of err.
func (s *store) refuse(err error) error {
	s.fail(err)
	return err
}

// begin starts an upload.
func (s *store) begin() (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errClosed
	case len(s.uploads) == maxUploads || len(s.blobs)+len(s.uploads) >= maxBlobs:
		return nil, s.refuse(fmt.Errorf("%w: more than %d blobs, or %d at once", oci.ErrTooLarge, maxBlobs, maxUploads))
	}
	u, err := newUpload(s)
	if err != nil {
		return nil, s.refuse(err)
	}
	s.uploads[u.id] = u
	return u, nil
}

// resume gives an upload that was begun.
func (s *store) resume(id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	return u, nil
}

// end forgets an upload; with a digest its file becomes that blob. It reports
// whether the store took the file.
func (s *store) end(u *upload, d oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uploads[u.id] != u {
		return false
	}
	delete(s.uploads, u.id)
	_, have := s.blobs[d]
	if d == "" || have || s.closed {
		return false
	}
	s.blobs[d] = blob{u.file, u.size}
	return true
}

// blob gives the size of a blob that is complete.
func (s *store) blob(d oci.Digest) (size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[d]
	return b.size, ok
}

// open gives the bytes of a blob.
func (s *store) open(d oci.Descriptor) (io.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	b, ok := s.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%w: the daemon didn't push it", oci.ErrNotFound)
	}
	if d.Size >= 0 && d.Size != b.size {
		return nil, fmt.Errorf("%w: %d bytes were pushed, its descriptor says %d", oci.ErrDigestMismatch, b.size, d.Size)
	}
	return io.NewSectionReader(b.file, 0, b.size), nil
}

// putManifest takes a manifest; isRoot says that it is what was asked for.
func (s *store) putManifest(raw []byte, mediaType string, isRoot bool) (oci.Descriptor, error) {
	parsed, err := oci.ParseManifest(mediaType, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return oci.Descriptor{}, errors.Join(ociregistry.ErrManifestInvalid, s.refuse(err))
	}
	d := oci.Descriptor{MediaType: parsed.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if _, have := s.manifests[d.Digest]; !have {
		if s.bytes += len(raw); s.bytes > maxManifests {
			return d, s.refuse(fmt.Errorf("%w: more than %d bytes of manifests", oci.ErrTooLarge, maxManifests))
		}
		s.manifests[d.Digest] = manifest{d, raw}
	}
	if isRoot && s.rootIs == "" {
		close(s.complete)
	}
	if isRoot {
		s.rootIs = d.Digest
	}
	return d, nil
}

// root gives the manifest of what was asked for.
func (s *store) root() (manifest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.manifests[s.rootIs]
	return m, ok
}

func (s *store) manifest(d oci.Digest) (manifest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.manifests[d]
	return m, ok
}

// close frees the files. nil is closed.
func (s *store) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, b := range s.blobs {
		errs = append(errs, b.file.Close())
	}
	for _, u := range s.uploads {
		errs = append(errs, u.file.Close())
	}
	s.blobs, s.uploads = nil, nil
	return errors.Join(errs...)
}
