package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// A manifest is one that waits to be sent.
type manifest struct {
	desc oci.Descriptor
	raw  []byte
}

// A holder keeps back the manifest that was put last: it may be the root, which
// Commit sends under its name. When another comes it was not, and is sent by
// its digest.
type holder struct {
	mu   sync.Mutex
	held *manifest
	// sending is locked for reading while a manifest is sent, for writing while an
	// index is: its children must be there first, and they may still be on their way.
	sending sync.RWMutex
}

// swap puts m, which may be nil, in place of the manifest that is held, and
// gives that one. done is to be called once it is sent.
func (h *holder) swap(m *manifest) (before *manifest, done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, h.held = h.held, m
	switch {
	case before == nil:
		return nil, func() {}
	case oci.IsIndexType(before.desc.MediaType) || m == nil:
		h.sending.Lock() // under mu, so that nothing that comes later overtakes
		return before, h.sending.Unlock
	default:
		h.sending.RLock()
		return before, h.sending.RUnlock
	}
}

// PutManifest implements [oci.Destination]. The manifest that was put last is
// held back until the next, or Commit; so a refusal of one may be reported by
// the call after.
func (d *destination) PutManifest(ctx context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	desc := oci.Descriptor{MediaType: mt, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	before, done := d.holder.swap(&manifest{desc, bytes.Clone(raw)})
	defer done()
	if before == nil || before.desc.Digest == desc.Digest {
		return desc, nil
	}
	if err := d.putNamed(ctx, before, string(before.desc.Digest)); err != nil {
		return oci.Descriptor{}, err
	}
	return desc, nil
}

// Commit implements [oci.Destination]: root is sent under the image's name. A
// repository that this created is given the visibility that was asked for.
func (d *destination) Commit(ctx context.Context, root, _ oci.Descriptor) error {
	held, done := d.holder.swap(nil)
	defer done()
	if held != nil && held.desc.Digest != root.Digest {
		if err := d.putNamed(ctx, held, string(held.desc.Digest)); err != nil {
			return err
		}
		held = nil
	}
	name := d.name(root)
	if held == nil {
		// It was put before others, or is there from an earlier run.
		desc, raw, err := d.repo.Resolve(ctx, string(root.Digest))
		if err != nil {
			return oci.Wrap(err, "commit", d.label(name), oci.Descriptor{})
		}
		if oci.IsDigest(name) {
			return d.afterCommit(ctx)
		}
		held = &manifest{desc, raw}
	}
	if err := d.putNamed(ctx, held, name); err != nil {
		return err
	}
	return d.afterCommit(ctx)
}

// name gives what the image is called in its repository: its tag, else root's digest.
func (d *destination) name(root oci.Descriptor) string {
	if d.ref.Tag != "" {
		return d.ref.Tag
	}
	return string(root.Digest)
}

// putNamed puts m under name. The transport repeats it where that may help.
func (d *destination) putNamed(ctx context.Context, m *manifest, name string) error {
	return oci.Wrap(d.putManifest(ctx, m, name), "put manifest", d.label(name), m.desc)
}

func (d *destination) putManifest(ctx context.Context, m *manifest, name string) error {
	if err := d.beforeWrite(ctx); err != nil {
		return err
	}
	return d.repo.putManifest(ctx, m, name)
}

// putManifest puts m under name, and enters it at its subject where the registry
// doesn't do that itself.
func (r *repo) putManifest(ctx context.Context, m *manifest, name string) error {
	header, err := r.sendManifest(ctx, m, name)
	if err != nil {
		return err
	}
	return r.referTo(ctx, m, header)
}

// sendManifest puts m under name and gives the answer's header.
func (r *repo) sendManifest(ctx context.Context, m *manifest, name string) (http.Header, error) {
	req, err := r.request(ctx, http.MethodPut, r.url("/manifests/"+name), r.push())
	if err != nil {
		return nil, err
	}
	// No parameters: Quay compares the type as a whole.
	req.Header.Set("Content-Type", m.desc.MediaType)
	req.ContentLength = m.desc.Size
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.raw)), nil }
	req.Body, _ = req.GetBody() // it can't fail
	resp, err := r.send(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusCreated {
		return nil, answered(resp)
	}
	finish(resp)
	got := oci.Digest(resp.Header.Get("Docker-Content-Digest"))
	if got != "" && got.Algorithm() == m.desc.Digest.Algorithm() && got != m.desc.Digest {
		return nil, fmt.Errorf("%w: the registry took it for %s", oci.ErrDigestMismatch, got)
	}
	return resp.Header, nil
}
