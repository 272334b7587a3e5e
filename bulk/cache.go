package bulk

import (
	"context"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/internal/layercache"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// saveWithin is how long each cache may be waited for at the end of a run,
// also of one that was interrupted.
const saveWithin = 2 * time.Second

// openCache reads the layer cache, if the run has one. A file that can't be used
// is no reason not to copy.
func (r *run) openCache() {
	if r.opt.LayerCache == "" || r.opt.Filters.Empty() && r.traits.Raw {
		return
	}
	c, err := layercache.Open(r.opt.LayerCache)
	if err != nil {
		r.warn(err.Error() + "; the run goes on without it")
		return
	}
	r.cache = c
}

// saveCache writes what the run added to its caches.
func (r *run) saveCache(ctx context.Context) {
	if r.opt.DryRun {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if r.cache != nil {
		r.save(ctx, r.cache.Save)
	}
	r.save(ctx, r.blobs.known.save)
}

func (r *run) save(ctx context.Context, to func(context.Context) error) {
	ctx, stop := context.WithTimeout(ctx, saveWithin)
	defer stop()
	if err := to(ctx); err != nil {
		r.warn(err.Error())
	}
}

// remembered gives what an earlier run made of mk. Whether the blob is anywhere
// is to be seen.
func (m *mover) remembered(mk *pipeline.Making) (pipeline.Made, bool) {
	if m.cache == nil || mk.Look {
		return pipeline.Made{}, false
	}
	e, ok := m.cache.Get(mk.From.Digest, mk.How)
	if !ok {
		return pipeline.Made{}, false
	}
	return pipeline.Made{
		Digest: e.Desc.Digest, Size: e.Desc.Size, DiffID: e.DiffID, Unchanged: e.Unchanged, TarSize: -1, SourceTarSize: -1,
	}, true
}

// rememberedAt gives the repository of m's registry that the blob went into, ""
// if that was another's or m's own.
func (m *mover) rememberedAt(mk *pipeline.Making) string {
	e, _ := m.cache.Get(mk.From.Digest, mk.How)
	host, repo, _ := strings.Cut(e.At, "/")
	if host != m.to.Registry || repo == m.to.Repository || !oci.ValidRepository(repo) {
		return ""
	}
	return repo
}

// remember notes for later runs that mk came to made.
func (m *mover) remember(mk *pipeline.Making, made pipeline.Made) {
	if m.cache == nil {
		return
	}
	e := layercache.Entry{Desc: mk.Desc(made), DiffID: made.DiffID, Unchanged: made.Unchanged, Codec: string(mk.Codec), Specs: m.specs}
	if mk.Recodes {
		e.Specs = nil // no filters of occystrap's
	}
	if _, ok := m.dest.Destination.(oci.Mounter); ok {
		e.At = m.to.Name()
	}
	m.cache.Put(mk.From.Digest, mk.How, e)
}
