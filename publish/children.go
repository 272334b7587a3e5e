package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// bring sees to it that the repository of dest has all of entries. Those that ours
// has are copied from the repository of source where they lack, and are returned;
// any other that lacks is an error, which names them all. In a dry run nothing is
// copied, and what can't be seen counts as lacking.
func (r *run) bring(ctx context.Context, source, dest oci.Ref, entries []oci.Descriptor, ours map[oci.Digest]bool) (brought, error) {
	var b brought
	lacking, err := r.lacking(ctx, dest, entries)
	if err != nil {
		return b, err
	}
	var jobs []copyJob
	var lost []string
	for _, d := range lacking {
		if ours[d.Digest] && source.Name() != dest.Name() {
			desc := oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
			jobs = append(jobs, copyJob{From: repoAt(source, d.Digest), Desc: desc, To: repoAt(dest, "")})
			b.copied = append(b.copied, Content{Desc: desc})
		} else {
			lost = append(lost, string(d.Digest))
		}
	}
	if len(lost) > 0 {
		err := fmt.Errorf("%w: %s; a list that names them would be broken", oci.ErrNotFound, strings.Join(lost, ", "))
		return b, &oci.Error{Op: "look for kept images in", Ref: dest.Name(), Err: err}
	}
	if len(jobs) == 0 || r.p.DryRun {
		return b, nil
	}
	b.bytes, err = r.copyAll(ctx, jobs)
	return b, err
}

// A brought says what had to be copied.
type brought struct {
	copied []Content // without bytes
	bytes  int64
}

// copyAll does jobs and returns how many bytes were read from the source. One that
// fails is an error, after the others.
func (r *run) copyAll(ctx context.Context, jobs []copyJob) (int64, error) {
	var bytes int64
	var errs []error
	err := r.copy(ctx, jobs, func(job int, rep oci.ImageReport) {
		bytes += rep.BytesMoved
		if rep.Undone() {
			errs = append(errs, copyError(jobs[job], rep))
		}
	})
	if len(errs) == 0 && err != nil {
		errs = append(errs, err)
	}
	return bytes, errors.Join(errs...)
}

func copyError(job copyJob, rep oci.ImageReport) error {
	return &oci.Error{Op: "copy", Ref: job.From.String(), Err: errors.New(rep.Error)} // it says its step
}

// repoAt gives the repository of ref, and d in it.
func repoAt(ref oci.Ref, d oci.Digest) oci.Ref {
	return oci.Ref{Registry: ref.Registry, Repository: ref.Repository, Digest: d}
}

// lacking gives those of entries that the repository of dest doesn't have, in their
// order, each once.
func (r *run) lacking(ctx context.Context, dest oci.Ref, entries []oci.Descriptor) ([]oci.Descriptor, error) {
	lacks := make([]bool, len(entries))
	asked := map[oci.Digest]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for i, d := range entries {
		if asked[d.Digest] {
			continue
		}
		asked[d.Digest] = true
		g.Go(safely(func() error {
			there, err := r.has(gctx, dest, d.Digest)
			if r.p.DryRun && errors.Is(err, oci.ErrDenied) {
				err = nil
			}
			lacks[i] = !there
			return err
		}))
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var lacking []oci.Descriptor
	for i, d := range entries {
		if lacks[i] {
			lacking = append(lacking, d)
		}
	}
	return lacking, nil
}

// platforms reads what the configs of list's entries say that don't say their
// platform, of those that have one. place is where they are, and list may be nil.
func (r *run) platforms(ctx context.Context, place oci.Source, list *index.Index) (map[oci.Digest]oci.Platform, error) {
	found := map[oci.Digest]oci.Platform{}
	if list == nil {
		return found, nil
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.atOnce())
	for _, d := range list.Unsaid() {
		g.Go(safely(func() error {
			desc, raw, err := place.Resolve(gctx, string(d.Digest))
			if err != nil {
				return unlessUnreadable(err)
			}
			p, err := configPlatform(gctx, place, Content{desc, raw})
			if err != nil {
				return unlessUnreadable(err)
			}
			mu.Lock()
			defer mu.Unlock()
			found[d.Digest] = p
			return nil
		}))
	}
	return found, g.Wait()
}

// unlessUnreadable keeps errors that another attempt may not meet. Of what is gone,
// hidden or no image nobody will learn the platform: it is then told by its digest.
func unlessUnreadable(err error) error {
	for _, kind := range []error{oci.ErrNotFound, oci.ErrDenied, oci.ErrInvalid, oci.ErrUnsupported, oci.ErrTooLarge, oci.ErrDigestMismatch} {
		if errors.Is(err, kind) {
			return nil
		}
	}
	return err
}

// configPlatform gives the platform of a single image, as its config in place says.
// The error matches [oci.ErrInvalid] if that says none.
func configPlatform(ctx context.Context, place oci.Source, image Content) (oci.Platform, error) {
	m, err := oci.ParseManifest(image.Desc.MediaType, image.Raw)
	if err != nil {
		return oci.Platform{}, err
	}
	if m.Config == nil {
		return oci.Platform{}, fmt.Errorf("%w: %s has no config", oci.ErrInvalid, image.Desc.Digest)
	}
	if m.Config.Size > oci.MaxManifestSize {
		return oci.Platform{}, fmt.Errorf("config %s of %d bytes: %w (limit %d)", m.Config.Digest, m.Config.Size, oci.ErrTooLarge, oci.MaxManifestSize)
	}
	rc, err := place.Fetch(ctx, *m.Config)
	if err != nil {
		return oci.Platform{}, err
	}
	defer func() { _ = rc.Close() }() // it was read whole, or that error counts
	body, err := io.ReadAll(rc)
	if err != nil {
		return oci.Platform{}, err
	}
	return index.ConfigPlatform(body)
}
