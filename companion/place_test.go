package companion_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// A shelf is one repository of a registry in memory. It notes what it is asked.
type shelf struct {
	registry ociregistry.Interface

	lonely, unlisted bool                        // it knows no referrers; it lists no tags
	fault            func(asked string) error    // nil: none
	endless          func(oci.Digest) oci.Digest // a made-up referrer of everything; nil: none

	mu    sync.Mutex
	asked []string // "HEAD sha256-….sig", "GET tags", "GET referrers sha256:…"
}

const repo = "org/app"

func newShelf() *shelf { return &shelf{registry: ocimem.New()} }

// add puts a manifest that holds text and is about subject, "" for nothing, under
// tag, "" for none.
func (s *shelf) add(t *testing.T, text, tag string, subject oci.Digest) oci.Digest {
	t.Helper()
	body := []byte(text)
	blob := oci.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(body), Size: int64(len(body))}
	if _, err := s.registry.PushBlob(t.Context(), repo, blob, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob, Layers: []oci.Descriptor{blob}}
	m.SchemaVersion = 2
	if subject != "" {
		m.ArtifactType = "application/x.test"
		m.Subject = &oci.Descriptor{MediaType: m.MediaType, Digest: subject, Size: 1}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.registry.PushManifest(t.Context(), repo, tag, raw, m.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest
}

func (s *shelf) ask(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := fmt.Sprintf(format, args...)
	s.asked = append(s.asked, asked)
	if s.fault != nil {
		return s.fault(asked)
	}
	return nil
}

// count gives how many questions began with prefix.
func (s *shelf) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	return n
}

func (s *shelf) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	if err := s.ask("HEAD %s", ref); err != nil {
		return oci.Descriptor{}, err
	}
	d, err := s.registry.ResolveTag(ctx, repo, ref)
	if errors.Is(err, ociregistry.ErrManifestUnknown) {
		err = oci.ErrNotFound
	}
	return d, err
}

func (s *shelf) Tags(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.ask("GET tags")
		if s.unlisted {
			err = oci.ErrUnsupported
		}
		if err != nil {
			yield("", err)
			return
		}
		s.registry.Tags(ctx, repo, "")(yield)
	}
}

func (s *shelf) Referrers(ctx context.Context, subject oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		err := s.ask("GET referrers %s", subject)
		if s.lonely {
			err = oci.ErrUnsupported
		}
		if err != nil {
			yield(oci.Descriptor{}, err)
			return
		}
		if s.endless != nil {
			yield(oci.Descriptor{Digest: s.endless(subject)}, nil)
			return
		}
		s.registry.Referrers(ctx, repo, subject, artifactType)(yield)
	}
}

// Nobody reads manifests or blobs to find companions.
func (s *shelf) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, s.unasked()
}

func (s *shelf) Fetch(context.Context, oci.Descriptor) (io.ReadCloser, error) {
	return nil, s.unasked()
}

func (s *shelf) unasked() error { return errors.Join(s.ask("content"), errors.New("content was read")) }

// A crowd is a shelf where everything has n referrers.
type crowd struct {
	*shelf
	n int
}

func (c *crowd) Referrers(_ context.Context, subject oci.Digest, _ string) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		_ = c.ask("GET referrers %s", subject)
		for i := range c.n {
			if !yield(oci.Descriptor{Digest: digest.FromString(fmt.Sprint(subject, i))}, nil) {
				return
			}
		}
	}
}
