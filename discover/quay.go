package discover

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

var quayKind = backend.Kind{
	Scheme: "quay",
	Help:   "the images of a Quay organisation: quay://ORG[/REPOGLOB[:TAG]]; TAG is a tag or a glob",
	Options: withReading(map[string]string{
		"token":      "OAuth application token of Quay's API; better the environment",
		"host":       "a Quay other than quay.io, host[:port]",
		"since":      "tags set on or after a date or RFC 3339 time, UTC",
		"until":      "tags set up to a date, its day included, or RFC 3339 time, UTC",
		"exclude":    "leave out repositories that match a glob, or REPOGLOB:TAGGLOB; repeatable",
		"label":      "only images with the label KEY or KEY=VALUE; repeatable, one image must have all",
		"semver":     "only tags that are versions in a range, as >=1.2 <2",
		"latest":     "only the N newest tags of each repository",
		"companions": "true lets globs match cosign's tags",
	}),
	Source: func(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
		q, err := readQuery(u, env)
		if err != nil {
			return nil, err
		}
		return &quayImages{
			opened: opened{env},
			query:  q,
			client: &quay.Client{Host: q.host, Token: q.token, HTTP: env.HTTP, PlainHTTP: env.PlainHTTP},
		}, nil
	},
}

// quayImages are the images of an organisation that a query matches.
type quayImages struct {
	opened
	query  query
	client *quay.Client

	mu      sync.Mutex
	listing oci.Listing // of the last pass
}

// Discover lists the images by repository and tag. Each call is a pass of its
// own over Quay's API, or over the cache.
func (im *quayImages) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		if items, ok := im.recall(); ok {
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			return
		}
		im.count(func(l *oci.Listing) { *l = oci.Listing{Anonymous: im.query.token == ""} })
		s := survey{im: im}
		var items []oci.Item
		for item, err := range s.items(ctx) {
			if err == nil && im.env.CacheDir != "" {
				items = append(items, item)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
		im.keep(items)
	}
}

// Listing says how far the last pass came.
func (im *quayImages) Listing() oci.Listing {
	im.mu.Lock()
	defer im.mu.Unlock()
	l := im.listing
	l.Hidden = slices.Sorted(slices.Values(l.Hidden))
	return l
}

func (im *quayImages) count(change func(l *oci.Listing)) {
	im.mu.Lock()
	defer im.mu.Unlock()
	change(&im.listing)
}

// opened is what all ways have in common: images are many, and their caller
// opens them.
type opened struct{ env backend.Env }

// Bulk is true.
func (o opened) Bulk() bool { return true }

// Close does nothing: the HTTP client is the caller's.
func (o opened) Close() error { return nil }

// Source opens the repository of item.
func (o opened) Source(ctx context.Context, item oci.Item) (oci.Source, error) {
	return o.env.Open(ctx, item.Ref)
}
