package quaytest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"
)

// A Disk keeps content in a folder: what has one digest once, in blobs/, and
// for each repository a mark for every blob and manifest that it holds. Blobs
// and uploads are streamed. It is safe for concurrent use in one process, and
// what was stored is there when the folder is opened again; uploads aren't.
//
// It keeps no tags (a [Server] does), so the methods about tags return
// errors that match ociregistry.ErrUnsupported.
type Disk struct {
	*ociregistry.Funcs
	dir string

	mu      sync.Mutex
	uploads map[string]*diskUpload
}

var _ ociregistry.Interface = (*Disk)(nil)

// OpenDisk opens the store in dir, and makes it if it isn't there.
func OpenDisk(dir string) (*Disk, error) {
	s := &Disk{dir: dir, uploads: map[string]*diskUpload{}}
	for _, d := range []string{"blobs", "uploads", "repositories"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Disk) content(d ociregistry.Digest) string {
	return filepath.Join(s.dir, "blobs", string(d.Algorithm())+"-"+d.Encoded())
}

// mark is the file whose presence says that repo holds d. Its content is the
// descriptor.
func (s *Disk) mark(repo, kind string, d ociregistry.Digest) string {
	return filepath.Join(s.folder(repo), kind, string(d.Algorithm())+"-"+d.Encoded())
}

func (s *Disk) folder(repo string) string {
	return filepath.Join(s.dir, "repositories", strings.ReplaceAll(repo, "/", "%"))
}

// put writes a mark.
func (s *Disk) put(repo, kind string, desc ociregistry.Descriptor) error {
	raw, err := json.Marshal(desc)
	if err != nil {
		return err
	}
	name := s.mark(repo, kind, desc.Digest)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return writeFile(name, raw)
}

// writeFile writes name whole or not at all.
func writeFile(name string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), name)
}

// get reads a mark; unknown is returned if there is none.
func (s *Disk) get(repo, kind string, d ociregistry.Digest, unknown error) (desc ociregistry.Descriptor, err error) {
	if err := d.Validate(); err != nil {
		return desc, unknown
	}
	raw, err := os.ReadFile(s.mark(repo, kind, d))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.folder(repo)); err != nil {
			return desc, ociregistry.ErrNameUnknown
		}
		return desc, unknown
	}
	if err != nil {
		return desc, err
	}
	return desc, json.Unmarshal(raw, &desc)
}

// ResolveBlob implements ociregistry.Reader.
func (s *Disk) ResolveBlob(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.get(repo, "blobs", d, ociregistry.ErrBlobUnknown)
}

// ResolveManifest implements ociregistry.Reader.
func (s *Disk) ResolveManifest(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.get(repo, "manifests", d, ociregistry.ErrManifestUnknown)
}

// GetBlob implements ociregistry.Reader.
func (s *Disk) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return s.GetBlobRange(ctx, repo, d, 0, -1)
}

// GetBlobRange implements ociregistry.Reader.
func (s *Disk) GetBlobRange(ctx context.Context, repo string, d ociregistry.Digest, from, to int64) (ociregistry.BlobReader, error) {
	desc, err := s.ResolveBlob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return s.open(desc, from, to)
}

// GetManifest implements ociregistry.Reader.
func (s *Disk) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	desc, err := s.ResolveManifest(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return s.open(desc, 0, -1)
}

func (s *Disk) open(desc ociregistry.Descriptor, from, to int64) (ociregistry.BlobReader, error) {
	if to < 0 || to > desc.Size {
		to = desc.Size
	}
	if from < 0 || from > to {
		return nil, ociregistry.ErrRangeInvalid
	}
	f, err := os.Open(s.content(desc.Digest))
	if err != nil {
		return nil, err
	}
	return &diskReader{io.NewSectionReader(f, from, to-from), f, desc}, nil
}

type diskReader struct {
	io.Reader
	io.Closer
	desc ociregistry.Descriptor
}

func (r *diskReader) Descriptor() ociregistry.Descriptor { return r.desc }

// MountBlob implements ociregistry.Writer.
func (s *Disk) MountBlob(ctx context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := s.ResolveBlob(ctx, from, d)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	return desc, s.put(to, "blobs", desc)
}

// PushManifest implements ociregistry.Writer. tag must be "". What contents
// refers to isn't checked.
func (s *Disk) PushManifest(_ context.Context, repo, tag string, contents []byte, mediaType string) (ociregistry.Descriptor, error) {
	if tag != "" {
		return ociregistry.Descriptor{}, ociregistry.ErrUnsupported
	}
	desc := ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(contents), Size: int64(len(contents))}
	if err := writeFile(s.content(desc.Digest), contents); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return desc, s.put(repo, "manifests", desc)
}

// DeleteBlob implements ociregistry.Deleter. The content stays.
func (s *Disk) DeleteBlob(_ context.Context, repo string, d ociregistry.Digest) error {
	return s.remove(s.mark(repo, "blobs", d), ociregistry.ErrBlobUnknown)
}

// DeleteManifest implements ociregistry.Deleter. The content stays.
func (s *Disk) DeleteManifest(_ context.Context, repo string, d ociregistry.Digest) error {
	return s.remove(s.mark(repo, "manifests", d), ociregistry.ErrManifestUnknown)
}

func (s *Disk) remove(name string, unknown error) error {
	err := os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	return err
}

// Repositories implements ociregistry.Lister.
func (s *Disk) Repositories(_ context.Context, startAfter string) iter.Seq2[string, error] {
	entries, err := os.ReadDir(filepath.Join(s.dir, "repositories"))
	if err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	var names []string
	for _, e := range entries {
		if name := strings.ReplaceAll(e.Name(), "%", "/"); name > startAfter {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return ociregistry.SliceSeq(names)
}

// Referrers implements ociregistry.Lister.
func (s *Disk) Referrers(ctx context.Context, repo string, subject ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		entries, err := os.ReadDir(filepath.Join(s.folder(repo), "manifests"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(ociregistry.Descriptor{}, err)
			return
		}
		for _, e := range entries {
			alg, hex, ok := strings.Cut(e.Name(), "-")
			if !ok || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			rd, err := s.GetManifest(ctx, repo, ociregistry.Digest(alg+":"+hex))
			if err != nil {
				yield(ociregistry.Descriptor{}, err)
				return
			}
			desc, raw, err := readAll(rd)
			if err != nil {
				yield(ociregistry.Descriptor{}, err)
				return
			}
			m, err := readManifest(desc, raw)
			if err != nil || m.Subject == nil || m.Subject.Digest != subject || artifactType != "" && m.ArtifactType != artifactType {
				continue
			}
			desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
			if !yield(desc, nil) {
				return
			}
		}
	}
}
