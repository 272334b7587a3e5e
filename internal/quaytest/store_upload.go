package quaytest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"
)

// A diskUpload is an upload into a [Disk]: a file in uploads/ that is hashed
// while it grows, and renamed at its end. One goroutine at a time uses it.
type diskUpload struct {
	disk *Disk
	repo string
	id   string
	file *os.File
	hash hash.Hash
	size int64
	want int64 // offset that the next write must have; -1: any
}

// PushBlob implements ociregistry.Writer.
func (s *Disk) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	return appending{s}.PushBlob(ctx, repo, desc, r)
}

// PushBlobChunked implements ociregistry.Writer.
func (s *Disk) PushBlobChunked(_ context.Context, repo string, _ int) (ociregistry.BlobWriter, error) {
	u := &diskUpload{disk: s, repo: repo, id: rand.Text(), hash: sha256.New(), want: -1}
	f, err := os.Create(filepath.Join(s.dir, "uploads", u.id))
	if err != nil {
		return nil, err
	}
	u.file = f
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[u.id] = u
	return u, nil
}

// PushBlobChunkedResume implements ociregistry.Writer.
func (s *Disk) PushBlobChunkedResume(_ context.Context, repo, id string, offset int64, _ int) (ociregistry.BlobWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil || u.repo != repo {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	u.want = offset
	return u, nil
}

func (u *diskUpload) Write(p []byte) (int, error) {
	if u.want >= 0 && u.want != u.size {
		return 0, fmt.Errorf("offset %d of an upload of %d bytes: %w", u.want, u.size, ociregistry.ErrRangeInvalid)
	}
	u.want = -1
	n, err := u.file.Write(p)
	_, _ = u.hash.Write(p[:n]) // a hash never fails
	u.size += int64(n)
	return n, err
}

func (u *diskUpload) Close() error   { return nil } // it can be resumed
func (u *diskUpload) Size() int64    { return u.size }
func (u *diskUpload) ChunkSize() int { return 64 << 10 }
func (u *diskUpload) ID() string     { return u.id }

func (u *diskUpload) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	if got := digest.NewDigest(digest.SHA256, u.hash); got != d {
		return ociregistry.Descriptor{}, fmt.Errorf("the content is %s: %w", got, ociregistry.ErrDigestInvalid)
	}
	if !u.forget() {
		return ociregistry.Descriptor{}, ociregistry.ErrBlobUploadUnknown
	}
	desc := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: u.size}
	err := u.file.Close()
	if err == nil {
		err = os.Rename(u.file.Name(), u.disk.content(d))
	}
	if err == nil {
		err = u.disk.put(u.repo, "blobs", desc)
	}
	return desc, err
}

func (u *diskUpload) Cancel() error {
	if !u.forget() {
		return nil
	}
	return errors.Join(u.file.Close(), os.Remove(u.file.Name()))
}

// forget ends the upload; it reports false if it had ended before.
func (u *diskUpload) forget() bool {
	u.disk.mu.Lock()
	defer u.disk.mu.Unlock()
	if u.disk.uploads[u.id] != u {
		return false
	}
	delete(u.disk.uploads, u.id)
	return true
}
