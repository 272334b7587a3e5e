package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxNested is how deep a list may hold lists: as deep as they are copied.
	maxNested = 4
	// maxSubjects bounds the manifests that companions are looked for of, of one
	// content: as many as are copied.
	maxSubjects = 10_000
	// maxNestedBytes is how many bytes of lists in lists a run keeps: 8 MiB. What is
	// beyond is read again.
	maxNestedBytes = 8 << 20
)

// subjects gives the digests of contents, which the repository of from has, and of all
// manifests below them, each once, lists before what they hold. Only lists in lists are
// read, and those without bytes among contents; what a copy read isn't read again. What
// isn't there any more has nothing below it.
//
// Lists nested too deep are an error matching [oci.ErrInvalid], too many manifests one
// matching [oci.ErrTooLarge].
func (r *run) subjects(ctx context.Context, from oci.Ref, contents []Content) ([]oci.Digest, error) {
	var all []oci.Digest
	seen := map[oci.Digest]bool{}
	var add func(c Content, depth int) error
	add = func(c Content, depth int) error {
		if seen[c.Desc.Digest] {
			return nil
		}
		if len(all) > maxSubjects { // the first content not counted
			return fmt.Errorf("%w: more than %d manifests", oci.ErrTooLarge, maxSubjects)
		}
		seen[c.Desc.Digest] = true
		all = append(all, c.Desc.Digest)
		if !oci.IsIndexType(c.Desc.MediaType) {
			return nil
		}
		if depth == maxNested {
			return fmt.Errorf("%w: indexes nested deeper than %d", oci.ErrInvalid, maxNested)
		}
		if c.Raw == nil {
			var err error
			if c, err = r.nested(ctx, from, c.Desc.Digest); err != nil {
				if errors.Is(err, oci.ErrNotFound) {
					return nil
				}
				return err
			}
		}
		m, err := oci.ParseManifest(c.Desc.MediaType, c.Raw)
		if err != nil {
			return oci.Wrap(err, "read the list", repoAt(from, c.Desc.Digest).String(), c.Desc)
		}
		for _, d := range m.Manifests {
			if err := add(Content{Desc: d}, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range contents {
		if err := add(c, 0); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// alone stands for a manifest without what is below it.
func alone(d oci.Digest) Content { return Content{Desc: oci.Descriptor{Digest: d}} }

// nestedLists are the lists in lists that a run has read, by repository and digest. The
// zero value is ready.
type nestedLists struct {
	mu    sync.Mutex
	lists map[string]*nestedList
	bytes int
}

type nestedList struct {
	mu sync.Mutex // held while it is read
	Content
}

func (n *nestedLists) of(repository string, d oci.Digest) *nestedList {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := repository + "@" + string(d)
	l := n.lists[key]
	if l == nil {
		if n.lists == nil {
			n.lists = map[string]*nestedList{}
		}
		l = &nestedList{}
		n.lists[key] = l
	}
	return l
}

// keep keeps c as l, whose mu is held, if there is room.
func (n *nestedLists) keep(l *nestedList, c Content) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.Raw == nil && n.bytes+len(c.Raw) <= maxNestedBytes {
		l.Content = c
		n.bytes += len(c.Raw)
	}
}

// nested reads the list d of the repository of from, once in a run.
func (r *run) nested(ctx context.Context, from oci.Ref, d oci.Digest) (Content, error) {
	l := r.inner.of(from.Name(), d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Raw != nil {
		return l.Content, nil
	}
	repo, err := r.source(from)
	if err != nil {
		return Content{}, err
	}
	var c Content
	if c.Desc, c.Raw, err = repo.Resolve(ctx, string(d)); err == nil {
		r.inner.keep(l, c)
	}
	return c, err
}

// wasRead notes a manifest that a copy read in the repository of from.
func (r *run) wasRead(from oci.Ref, c Content) {
	if !r.p.Companions || !oci.IsIndexType(c.Desc.MediaType) {
		return
	}
	l := r.inner.of(from.Name(), c.Desc.Digest)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.inner.keep(l, c)
}
