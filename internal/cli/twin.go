package cli

import (
	"context"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/oci"
)

// A twin is a second source. It stands where destinations do: its credentials
// and connection are those of the --dest-… flags.
type twin struct {
	images    backend.Images
	platforms []oci.Platform
}

// openTwo opens two sources, the second as s.second.
func (a *app) openTwo(ctx context.Context, first, second string) (*session, error) {
	if err := a.readStdin(); err != nil {
		return nil, err
	}
	s := &session{app: a}
	uriA, kindA, err := a.find(sources, first, source)
	if err != nil {
		return nil, err
	}
	uriB, kindB, err := a.find(sources, second, source)
	if err != nil {
		return nil, err
	}
	s.source = &side{name: source, uri: uriA, hosts: a.hosts(uriA)}
	s.dest = &side{name: destination, uri: uriB, hosts: a.hosts(uriB)}
	if s.platforms, err = a.plat.list(uriA); err != nil {
		return nil, err
	}
	platforms, err := a.plat.list(uriB)
	if err != nil {
		return nil, err
	}
	if s.images, err = s.openSource(ctx, kindA, s.source, s.dest); err != nil {
		s.close()
		return nil, err
	}
	images, err := s.openSource(ctx, kindB, s.dest, s.source)
	if err != nil {
		s.close()
		return nil, err
	}
	s.second = &twin{images, platforms}
	if err = s.listHosts(ctx, s.dest, images, "--dest-creds", a.creds.destCreds); err == nil {
		err = s.settleHosts(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	if n := a.disc.minExpected; n > 0 {
		s.images, s.second.images = discover.AtLeast(s.images, n), discover.AtLeast(images, n)
	}
	return s, nil
}

// openSource opens one of two sources.
func (s *session) openSource(ctx context.Context, kind backend.Kind, one, other *side) (backend.Images, error) {
	env, err := s.env(one, other)
	if err != nil {
		return nil, err
	}
	from := env
	env.Open = func(_ context.Context, ref oci.Ref) (oci.Source, error) { return registry.Open(ref, from) }
	return kind.Source(ctx, one.uri, env)
}
