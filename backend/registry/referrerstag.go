package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// referrersTag is the tag that holds what refers to d, in registries without the
// referrers API: at most 32 characters of the algorithm, 64 of the digest.
//
// Source: the distribution specification, v1.1, "Referrers Tag Schema".
func referrersTag(d oci.Digest) string {
	cut := func(s string, n int) string { return s[:min(n, len(s))] }
	return cut(d.Algorithm().String(), 32) + "-" + cut(d.Encoded(), 64)
}

// referTries is how often a list of referrers is written, where others write it at
// the same time.
const referTries = 3

// referTo enters m, which was put and answered with header, into the list of what
// refers to its subject, if it has one and the registry doesn't do that by itself.
// To find that out costs one request for each registry.
func (r *repo) referTo(ctx context.Context, m *manifest, header http.Header) error {
	if !bytes.Contains(m.raw, []byte(`"subject"`)) {
		return nil // nearly all
	}
	parsed, err := oci.ParseManifest(m.desc.MediaType, m.raw)
	if err != nil || parsed.Subject == nil {
		return nil //nolint:nilerr // what can't be read has no subject; the registry took it
	}
	subject := parsed.Subject.Digest
	if header.Get("OCI-Subject") != "" {
		r.facts.Store(referrersAPI, true)
		return nil
	}
	has, known := r.hasReferrersAPI()
	if !known {
		// Quay has the API and doesn't say so.
		if has, err = r.askReferrersAPI(ctx, subject); err != nil {
			return oci.Wrap(err, "look for the referrers API at", r.ref.Registry, oci.Descriptor{})
		}
	}
	if has {
		return nil
	}
	entry := m.desc
	entry.Annotations, entry.ArtifactType = parsed.Annotations, parsed.ArtifactType
	if entry.ArtifactType == "" && parsed.Config != nil {
		entry.ArtifactType = parsed.Config.MediaType
	}
	return oci.Wrap(r.enter(ctx, subject, entry), "enter referrer into", r.label(referrersTag(subject)), m.desc)
}

// askReferrersAPI finds out whether the registry has the referrers API. The
// repository is there, since something was just put into it.
func (r *repo) askReferrersAPI(ctx context.Context, subject oci.Digest) (bool, error) {
	header, body, _, err := r.page(ctx, r.url("/referrers/"+string(subject)), oci.MediaTypeIndex, oci.MaxManifestSize)
	if err == nil {
		_, err = r.parseReferrers(header, body)
	}
	has, sure := r.noteReferrersAPI(err)
	if has && !sure {
		return false, err
	}
	r.facts.Store(referrersAPI, has)
	return has, nil
}

// updating is held while a list of referrers is written: within one process
// nothing is lost for sure.
var updating = keyed{busy: map[string]chan struct{}{}}

// enter adds entry to the index under the tag of subject. Others may write it at
// the same time, and no registry tells: who finds another index afterwards reads
// it, and writes again if its entry isn't in it.
func (r *repo) enter(ctx context.Context, subject oci.Digest, entry oci.Descriptor) error {
	tag := referrersTag(subject)
	unlock, err := updating.lock(ctx, r.label(tag))
	if err != nil {
		return err
	}
	defer unlock()
	for range referTries {
		desc, raw, err := r.Resolve(ctx, tag)
		switch {
		case errors.Is(err, oci.ErrNotFound):
			raw = nil
		case err != nil:
			return err
		case !oci.IsIndexType(desc.MediaType):
			return fmt.Errorf("%w: the tag is no list of referrers, though its name says so", oci.ErrInvalid)
		}
		next, there, err := withEntry(raw, entry)
		if there || err != nil {
			return err
		}
		list := &manifest{oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: digest.FromBytes(next), Size: int64(len(next))}, next}
		if _, err := r.sendManifest(ctx, list, tag); err != nil {
			return err
		}
		if now, err := r.Head(ctx, tag); err != nil || now.Digest == list.desc.Digest {
			return err
		}
	}
	return fmt.Errorf("%w: others write it at the same time, %d times in a row", oci.ErrMoved, referTries)
}

// withEntry adds entry to the index raw, nil for none. All that raw has stays as
// it is; there means that entry is one of them.
func withEntry(raw []byte, entry oci.Descriptor) (next []byte, there bool, err error) {
	index := map[string]json.RawMessage{"schemaVersion": json.RawMessage("2")}
	entries := []json.RawMessage{}
	if raw != nil {
		m, err := oci.ParseManifest("", raw) // its keys are there once
		if err != nil {
			return nil, false, err
		}
		for _, d := range m.Manifests {
			if d.Digest == entry.Digest {
				return nil, true, nil
			}
		}
		if err := json.Unmarshal(raw, &index); err != nil {
			return nil, false, err
		}
		if list := index["manifests"]; list != nil {
			if err := json.Unmarshal(list, &entries); err != nil {
				return nil, false, err
			}
		}
	}
	own, err := json.Marshal(entry)
	if err != nil {
		return nil, false, err
	}
	list, err := json.Marshal(append(entries, own))
	if err != nil {
		return nil, false, err
	}
	index["manifests"] = list
	index["mediaType"] = json.RawMessage(`"` + oci.MediaTypeIndex + `"`)
	if next, err = json.Marshal(index); err == nil && len(next) > oci.MaxManifestSize {
		err = fmt.Errorf("a list of %d bytes: %w (limit %d)", len(next), oci.ErrTooLarge, oci.MaxManifestSize)
	}
	return next, false, err
}

// keyed is a lock for each key.
type keyed struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when it is over
}

// lock waits until nobody else has key.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		other := k.busy[key]
		if other == nil {
			own := make(chan struct{})
			k.busy[key] = own
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.busy, key)
				k.mu.Unlock()
				close(own)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
