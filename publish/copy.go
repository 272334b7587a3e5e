package publish

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A copyJob brings a manifest, with all that it refers to, into a repository. It
// gets no tag there.
type copyJob struct {
	From oci.Ref        // where it is; the tag, if any, is for messages
	Desc oci.Descriptor // of the manifest
	Raw  []byte         // its bytes, nil if they are yet to be read
	To   oci.Ref        // the repository
}

// to is what bulk calls the job's image.
func (j copyJob) to() oci.Ref {
	return oci.Ref{Registry: j.To.Registry, Repository: j.To.Repository, Digest: j.Desc.Digest}
}

// copy does jobs in one run of package bulk for each registry that is written to, so
// that they share what they have in common: p.Images at once at each. Registries
// don't wait for each other: what is for several of them is soon at all, and can
// get its tags before one of them forgets it. done is told what became of each job
// that was begun, one at a time and while others are still on their way; it must
// not wait for anything.
//
// The error joins those of jobs and what ended the run besides, or is a panic's.
func (r *run) copy(ctx context.Context, jobs []copyJob, done func(job int, rep oci.ImageReport)) error {
	var hosts []string
	byHost := map[string]*jobImages{}
	c := &manifestCache{}
	for i, j := range jobs {
		images := byHost[j.To.Registry]
		if images == nil {
			images = &jobImages{run: r, cache: c, named: map[string]int{}}
			byHost[j.To.Registry] = images
			hosts = append(hosts, j.To.Registry)
		}
		images.add(i, j)
	}
	var mu sync.Mutex // held while done is told
	one := func(job int, rep oci.ImageReport) {
		mu.Lock()
		defer mu.Unlock()
		done(job, rep)
	}
	var g errgroup.Group // of registries; its errors are panics
	g.SetLimit(r.atOnce())
	errs := make([]error, len(hosts))
	for i, host := range hosts {
		g.Go(safely(func() error {
			errs[i] = r.copyTo(ctx, host, byHost[host], one)
			return nil
		}))
	}
	if thrown := g.Wait(); thrown != nil {
		return thrown
	}
	return errors.Join(errs...)
}

func (r *run) copyTo(ctx context.Context, host string, images *jobImages, done func(job int, rep oci.ImageReport)) error {
	u, err := backend.ParseURI("registry://" + host)
	if err != nil {
		return err
	}
	env := r.p.Dest
	env.Compression = "" // what is published is published as it is
	target, err := registry.Kind.Target(ctx, u, env)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }() // nothing is left to be written
	opt := bulk.Options{
		Images: r.p.Images, Blobs: r.p.Blobs, Warn: r.p.Warn,
		Verify: pipeline.VerifyNone, // who puts by digest is told by the registry that it has it; tags are looked at
		Name:   func(item oci.Item) (oci.Ref, error) { return item.To, nil },
		Events: func(e bulk.Event) {
			switch e.Kind {
			case bulk.Moved:
				r.moved(e.Bytes)
			case bulk.Ended:
				rep := *e.Report
				for _, job := range images.jobs[e.Number-1].numbers {
					done(job, rep)
					rep.BytesMoved = 0 // they were read once
				}
				images.over(e.Number - 1)
			}
		},
	}
	_, err = bulk.Copy(ctx, images, target, opt)
	return err
}

// jobImages are jobs into one registry, as package bulk takes images.
type jobImages struct {
	run   *run
	cache *manifestCache
	jobs  []sharedJob
	named map[string]int // by [copyJob.to]
}

// A sharedJob is what jobs that bring the same into one repository have in common.
type sharedJob struct {
	copyJob
	numbers []int // of the jobs
}

// add takes j in, the job i. Two items may have one digest, and go to one place.
func (s *jobImages) add(i int, j copyJob) {
	key := j.to().String()
	if n, ok := s.named[key]; ok {
		s.jobs[n].numbers = append(s.jobs[n].numbers, i)
		return
	}
	s.named[key] = len(s.jobs)
	s.jobs = append(s.jobs, sharedJob{j, []int{i}})
	s.cache.expect(j)
}

// over forgets what was read for the job n.
func (s *jobImages) over(n int) { s.cache.over(s.jobs[n].copyJob) }

// Discover implements [oci.Discoverer].
func (s *jobImages) Discover(context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for _, j := range s.jobs {
			item := oci.Item{Ref: j.From, Desc: j.Desc, IsIndex: oci.IsIndexType(j.Desc.MediaType), Bytes: -1, To: j.to()}
			item.Ref.Digest = ""
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Listing implements [oci.Lister].
func (s *jobImages) Listing() oci.Listing { return oci.Listing{Found: len(s.jobs), Done: true} }

// Bulk implements [backend.Images].
func (s *jobImages) Bulk() bool { return true }

// Close implements [backend.Images].
func (s *jobImages) Close() error { return nil }

// Source implements [backend.Images].
func (s *jobImages) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	n, ok := s.named[item.To.String()]
	if !ok {
		return nil, fmt.Errorf("%w: %s", oci.ErrNotFound, item.To)
	}
	repo, err := s.run.source(item.Ref)
	if err != nil {
		return nil, err
	}
	return &onceRead{Repository: repo, run: s.run, cache: s.cache, job: s.jobs[n].copyJob}, nil
}

// onceRead is a source whose manifests are read once for all repositories that
// they go to.
type onceRead struct {
	*registry.Repository
	run   *run
	cache *manifestCache
	job   copyJob
}

// Resolve implements [oci.Source].
func (s *onceRead) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	if ref == string(s.job.Desc.Digest) && s.job.Raw != nil {
		return s.job.Desc, s.job.Raw, nil
	}
	if !oci.IsDigest(ref) {
		return s.Repository.Resolve(ctx, ref)
	}
	desc, raw, err := s.cache.resolve(ctx, s.job, ref, s.Repository)
	if err == nil {
		s.run.wasRead(s.job.From, Content{desc, raw})
	}
	return desc, raw, err
}

// maxCached is how many bytes of manifests are kept for repositories that are yet
// to get them: 32 MiB. What is beyond is read again.
const maxCached = 32 << 20

// A manifestCache keeps manifests below those of jobs that go to several
// repositories. The zero value is ready.
type manifestCache struct {
	mu     sync.Mutex
	groups map[string]*manifestGroup // by the source and digest of a job
	size   int64
}

// A manifestGroup is what was read for jobs of one source and digest.
type manifestGroup struct {
	left int // jobs that haven't ended
	read map[string]*manifestRead
	size int64
}

// A manifestRead is one reading of a manifest.
type manifestRead struct {
	done chan struct{} // closed once the rest is set
	Content
	err error
}

func groupOf(j copyJob) string { return j.From.Name() + "@" + string(j.Desc.Digest) }

// expect notes that j will be done.
func (c *manifestCache) expect(j copyJob) {
	if c.groups == nil {
		c.groups = map[string]*manifestGroup{}
	}
	g := c.groups[groupOf(j)]
	if g == nil {
		g = &manifestGroup{read: map[string]*manifestRead{}}
		c.groups[groupOf(j)] = g
	}
	g.left++
}

// over notes that j has ended.
func (c *manifestCache) over(j copyJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[groupOf(j)]
	if g == nil {
		return
	}
	if g.left--; g.left <= 0 {
		c.size -= g.size
		delete(c.groups, groupOf(j))
	}
}

// resolve reads ref from src for j, or waits for who does so already. Errors
// aren't kept: they are of the one who met them.
func (c *manifestCache) resolve(ctx context.Context, j copyJob, ref string, src oci.Source) (oci.Descriptor, []byte, error) {
	for {
		c.mu.Lock()
		g := c.groups[groupOf(j)]
		if g == nil || g.left < 2 && g.read[ref] == nil || c.size > maxCached {
			c.mu.Unlock()
			return src.Resolve(ctx, ref)
		}
		m := g.read[ref]
		if m == nil {
			m = &manifestRead{done: make(chan struct{})}
			g.read[ref] = m
			c.mu.Unlock()
			return c.readNow(ctx, g, m, ref, src)
		}
		c.mu.Unlock()
		select {
		case <-m.done:
		case <-ctx.Done():
			return oci.Descriptor{}, nil, context.Cause(ctx)
		}
		if m.err == nil {
			return m.Desc, m.Raw, nil
		}
	}
}

func (c *manifestCache) readNow(ctx context.Context, g *manifestGroup, m *manifestRead, ref string, src oci.Source) (oci.Descriptor, []byte, error) {
	m.Desc, m.Raw, m.err = src.Resolve(ctx, ref)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.err != nil {
		delete(g.read, ref)
	} else if g.left > 0 {
		g.size += int64(len(m.Raw))
		c.size += int64(len(m.Raw))
	}
	close(m.done)
	return m.Desc, m.Raw, m.err
}
