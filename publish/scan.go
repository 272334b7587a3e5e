package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

const (
	// maxTags bounds the tags of one scan, and maxEdges the entries of all of its
	// indexes: a registry that makes things up doesn't fill the memory.
	maxTags  = 1 << 20
	maxEdges = 8 << 20
)

// A scan is what one pass over a repository found: what each tag means, and which
// manifests each index holds. It keeps digests, no manifests.
type scan struct {
	repo oci.Ref // without tag
	tags map[string]oci.Digest
	// children are the entries of each index, in its order, each once.
	children map[oci.Digest][]oci.Digest
	edges    int
	offsets  bool // the list came in several pages that were counted by offsets
}

func newScan(repo oci.Ref) *scan {
	repo.Tag, repo.Digest = "", ""
	return &scan{repo: repo, tags: map[string]oci.Digest{}, children: map[oci.Digest][]oci.Digest{}}
}

// scan looks at the whole of repo. A Quay whose token we have tells of each tag
// what it means; elsewhere that is a list, and a HEAD for each tag. An index costs
// one GET, however many tags mean it. wanted are tags that the caller means to
// delete: that a list lacks one that is there shows that the list isn't whole.
//
// The error matches [oci.ErrNotFound] if there is no such repository. Any other, but
// the end of ctx, matches [oci.ErrIncomplete] and [oci.ErrRefused]: what the scan
// doesn't know may need what is to be deleted.
func (r *run) scan(ctx context.Context, repo oci.Ref, wanted []string) (*scan, error) {
	at, err := r.dest(repo)
	if err != nil {
		return nil, err
	}
	s := newScan(repo)
	var indexes []oci.Digest
	if api := r.p.quay(repo.Registry); api != nil && strings.Contains(repo.Repository, "/") {
		indexes, err = s.listQuay(ctx, api)
	} else {
		indexes, err = s.listRegistry(ctx, at, wanted, r.atOnce())
	}
	if err == nil {
		err = s.readIndexes(ctx, at, indexes, true, r.atOnce())
	}
	switch gone := (*absentError)(nil); {
	case ctx.Err() != nil: // before all else: what wasn't asked any more is no error
		return nil, context.Cause(ctx)
	case err == nil:
		return s, nil
	case errors.As(err, &gone):
		return nil, oci.Wrap(gone.error, "list tags of", s.repo.Name(), oci.Descriptor{})
	}
	return nil, notWhole(s.repo, err)
}

// notWhole says that err kept a scan of repo from being complete.
func notWhole(repo oci.Ref, err error) error {
	if !errors.Is(err, oci.ErrIncomplete) {
		err = fmt.Errorf("%w: %w", oci.ErrIncomplete, err)
	}
	return &refusal{fmt.Errorf("%s: nothing is deleted: %w", repo.Name(), err)}
}

// A refusal is an error that matches [oci.ErrRefused] as well.
type refusal struct{ error }

func (e *refusal) Unwrap() []error { return []error{oci.ErrRefused, e.error} }

// An absentError is a registry's proof that the repository isn't there.
type absentError struct{ error }

func (e *absentError) Unwrap() error { return e.error }

// listQuay takes the tags from Quay's API, and gives the indexes among what they mean.
func (s *scan) listQuay(ctx context.Context, api *quay.Client) ([]oci.Digest, error) {
	var lie error
	opt := quay.TagOptions{Skipped: func(err error) { lie = err }}
	set, isIndex := map[string]time.Time{}, map[oci.Digest]bool{}
	pages := 0
	for page, err := range api.TagPages(ctx, s.repo.Repository, opt) {
		switch {
		case notQuay(err):
			return nil, fmt.Errorf("%w: %s doesn't answer as a Quay; leave the API token away, or name its Quay (--quay-host): %w", oci.ErrUnsupported, s.repo.Registry, err)
		case err != nil && errors.Is(err, oci.ErrNotFound) && !errors.Is(err, oci.ErrIncomplete):
			return nil, &absentError{err}
		case err != nil:
			return nil, err
		case lie != nil: // who knows what else that entry was to say
			return nil, lie
		case len(s.tags) > maxTags:
			return nil, tooMany("tags", maxTags)
		}
		pages++
		s.offsets = pages > 1
		for _, t := range page {
			// Tags that move while they are listed come twice. The later counts.
			at, twice := set[t.Name]
			switch {
			case twice && t.Start.Equal(at) && s.tags[t.Name] != t.Digest:
				return nil, fmt.Errorf("tag %s: %w", t.Name, oci.ErrMoved)
			case twice && t.Start.Before(at):
				continue
			}
			s.tags[t.Name], set[t.Name] = t.Digest, t.Start
			isIndex[t.Digest] = isIndex[t.Digest] || t.IsIndex
		}
	}
	var indexes []oci.Digest
	for d, yes := range isIndex {
		if yes {
			indexes = append(indexes, d)
		}
	}
	return indexes, nil
}

// confirm looks whether a list by offsets lacks a tag: where tags go while it is
// read, others move up to a page that was read before. It takes the registry's list
// of names, which may be old, and so has what was there before. The error is as that
// of scan. Companions are deleted only after it: what else is missed is not deleted.
func (r *run) confirm(ctx context.Context, s *scan) error {
	if !s.offsets {
		return nil
	}
	at, err := r.dest(s.repo)
	if err != nil {
		return err
	}
	for tag, err := range at.AllTags(ctx) {
		if err == nil {
			if _, known := s.tags[tag]; known {
				continue
			}
			var d oci.Descriptor
			if d, err = meaning(ctx, at, tag); err == nil && d.MediaType != "" {
				err = fmt.Errorf("the listing lacks tag %s, which is there: tags have changed while it was read", tag)
			}
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return notWhole(s.repo, err)
		}
	}
	return nil
}

func tooMany(what string, limit int) error {
	return fmt.Errorf("more than %d %s: %w", limit, what, oci.ErrTooLarge)
}

// listRegistry takes the names of the tags from the registry's list and asks for
// each what it means.
func (s *scan) listRegistry(ctx context.Context, at *registry.Repository, wanted []string, atOnce int) ([]oci.Digest, error) {
	var names []string
	listed := map[string]bool{}
	for tag, err := range at.AllTags(ctx) {
		switch {
		case err != nil && len(names) == 0 && registry.Absent(err):
			return nil, &absentError{err}
		case err != nil:
			return nil, err
		case len(names) > maxTags:
			return nil, tooMany("tags", maxTags)
		case !listed[tag]:
			names, listed[tag] = append(names, tag), true
		}
	}
	for _, tag := range wanted {
		if !listed[tag] {
			names = append(names, tag)
		}
	}
	var mu sync.Mutex
	isIndex := map[oci.Digest]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, tag := range names {
		if gctx.Err() != nil {
			break
		}
		g.Go(safely(func() error {
			d, err := meaning(gctx, at, tag)
			switch {
			case err != nil || d.MediaType == "":
				return err
			case !listed[tag]:
				return fmt.Errorf("the list lacks tag %s, which is there; a registry may give a list that is minutes old", tag)
			}
			mu.Lock()
			defer mu.Unlock()
			s.tags[tag] = d.Digest
			if oci.IsIndexType(d.MediaType) {
				isIndex[d.Digest] = true
			}
			return nil
		}))
	}
	err := g.Wait()
	indexes := make([]oci.Digest, 0, len(isIndex))
	for d := range isIndex {
		indexes = append(indexes, d)
	}
	return indexes, err
}

// meaning asks what tag means: nothing, if it was deleted since it was listed. The
// answer to HEAD can't prove that, since it has no code.
//
// What is in docker's old schema 1 has its media type and no digest: it is nobody's
// child and has no children, so to know that it is there is enough.
func meaning(ctx context.Context, at *registry.Repository, tag string) (oci.Descriptor, error) {
	d, err := at.Head(ctx, tag)
	if errors.Is(err, oci.ErrNotFound) {
		if d, _, err = at.Resolve(ctx, tag); err != nil && registry.Absent(err) {
			return oci.Descriptor{}, nil
		}
	}
	if errors.Is(err, oci.ErrUnsupported) {
		return oci.Descriptor{MediaType: oci.MediaTypeDockerSchema1}, nil
	}
	return d, err
}

// readIndexes reads indexes, and the indexes in them, each once. Those that tags
// mean must be there; others may be missing, and nothing is reached through them.
func (s *scan) readIndexes(ctx context.Context, at *registry.Repository, indexes []oci.Digest, tagged bool, atOnce int) error {
	seen := map[oci.Digest]bool{}
	for ; len(indexes) > 0; tagged = false {
		var level []oci.Digest
		for _, d := range indexes {
			if _, known := s.children[d]; !known && !seen[d] {
				seen[d] = true
				level = append(level, d)
			}
		}
		var mu sync.Mutex
		var next []oci.Digest
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for _, d := range level {
			if gctx.Err() != nil {
				break
			}
			g.Go(safely(func() error {
				children, nested, err := entries(gctx, at, d)
				switch {
				case registry.Absent(err) && !tagged:
					return nil
				case registry.Absent(err):
					return fmt.Errorf("index %s is gone since it was listed: %w", d, oci.ErrGone)
				case err != nil:
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				next = append(next, nested...)
				return s.enter(d, children)
			}))
		}
		if err := g.Wait(); err != nil {
			return err
		}
		indexes = next
	}
	return nil
}

// enter keeps the entries of the index d.
func (s *scan) enter(d oci.Digest, children []oci.Digest) error {
	s.children[d] = children
	if s.edges += len(children); s.edges > maxEdges {
		return tooMany("entries in its indexes", maxEdges)
	}
	return nil
}

// entries gives what the index d holds, each once, and what of it are indexes.
func entries(ctx context.Context, at *registry.Repository, d oci.Digest) (all, indexes []oci.Digest, err error) {
	desc, raw, err := at.Resolve(ctx, string(d))
	if err != nil {
		return nil, nil, err
	}
	m, err := oci.ParseManifest(desc.MediaType, raw)
	if err != nil {
		return nil, nil, fmt.Errorf("index %s: %w", d, err)
	}
	once := map[oci.Digest]bool{}
	for _, e := range m.Manifests {
		if once[e.Digest] {
			continue
		}
		once[e.Digest] = true
		all = append(all, e.Digest)
		if oci.IsIndexType(e.MediaType) {
			indexes = append(indexes, e.Digest)
		}
	}
	return slices.Clip(all), indexes, nil
}

// referrers asks for what refers to each of digests, and reads the indexes among it.
func (s *scan) referrers(ctx context.Context, at *registry.Repository, digests []oci.Digest, atOnce int) ([][]oci.Digest, error) {
	found := make([][]oci.Digest, len(digests))
	var mu sync.Mutex
	var indexes []oci.Digest
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, d := range digests {
		if gctx.Err() != nil {
			break
		}
		g.Go(safely(func() error {
			for desc, err := range at.Referrers(gctx, d, "") {
				if err != nil {
					return err
				}
				found[i] = append(found[i], desc.Digest)
				if oci.IsIndexType(desc.MediaType) {
					mu.Lock()
					indexes = append(indexes, desc.Digest)
					mu.Unlock()
				}
			}
			return nil
		}))
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return found, s.readIndexes(ctx, at, indexes, false, atOnce)
}
