package dockerpush

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/oci"
)

// An upload is a blob that is being pushed. It goes straight into a file and is
// hashed on its way.
type upload struct {
	store *store
	id    string
	file  *os.File

	mu     sync.Mutex
	sha256 hash.Hash
	size   int64
	over   bool
}

func newUpload(s *store) (*upload, error) {
	f, err := spool.New("", "a blob of a push")
	if err != nil {
		return nil, err
	}
	return &upload{store: s, id: secret(), file: f, sha256: sha256.New()}, nil
}

func (u *upload) ID() string { return u.id }

// ChunkSize is the least that a piece may have.
func (u *upload) ChunkSize() int { return 1 }

func (u *upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.size
}

func (u *upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	n, err := u.file.Write(p)
	_, _ = u.sha256.Write(p[:n]) // a hash never fails
	u.size += int64(n)
	if err != nil {
		err = u.store.refuse(err)
	}
	return n, err
}

// Close leaves the upload to be gone on with.
func (u *upload) Close() error { return nil }

// Commit makes the upload the blob d.
func (u *upload) Commit(d ociregistry.Digest) (oci.Descriptor, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return oci.Descriptor{}, ociregistry.ErrBlobUploadUnknown
	}
	desc := oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: u.size}
	if err := u.check(d); err != nil {
		return desc, errors.Join(err, u.drop())
	}
	u.over = true
	if u.store.end(u, d) {
		return desc, nil
	}
	return desc, u.file.Close() // the blob is there already
}

// check compares what was written with d.
func (u *upload) check(d oci.Digest) error {
	if err := oci.ValidDigest(d); err != nil {
		return errors.Join(ociregistry.ErrDigestInvalid, err)
	}
	got := digest.NewDigest(digest.SHA256, u.sha256)
	if d.Algorithm() != digest.SHA256 { // rare: it is read again
		var err error
		if got, err = d.Algorithm().FromReader(io.NewSectionReader(u.file, 0, u.size)); err != nil {
			return err
		}
	}
	if got != d {
		return fmt.Errorf("%w: %d bytes came, which are %s", ociregistry.ErrDigestInvalid, u.size, got)
	}
	return nil
}

// Cancel ends the upload and frees its file; after Commit it does nothing.
func (u *upload) Cancel() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.drop()
}

func (u *upload) drop() error {
	if u.over {
		return nil
	}
	u.over = true
	u.store.end(u, "")
	return u.file.Close()
}
