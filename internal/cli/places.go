package cli

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/all"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// sources are the places to read from: the ways to discover, and the backends.
var sources = append(append(backend.Table{}, discover.Table...), all.Table...)

// A session is the places of one command, opened.
type session struct {
	app        *app
	source     *side
	dest       *side
	platforms  []oci.Platform
	images     backend.Images
	pins       *discover.Pins // images, if their digests are asked for; else nil
	target     oci.Target
	sourceKind backend.Kind
	destKind   backend.Kind
	second     *twin // of diff: what it is compared with
	transports []*transport.Transport
}

// open reads the URIs, works out whose credentials are whose, and opens the
// source, and the destination if destURI isn't "".
func (a *app) open(ctx context.Context, sourceURI, destURI string) (*session, error) {
	if err := a.readStdin(); err != nil {
		return nil, err
	}
	s := &session{app: a}
	u, kind, err := a.find(sources, sourceURI, source)
	if err != nil {
		return nil, err
	}
	s.source, s.sourceKind = &side{name: source, uri: u, hosts: a.hosts(u)}, kind
	if s.platforms, err = a.plat.list(u); err != nil {
		return nil, err
	}
	if destURI != "" {
		if u, s.destKind, err = a.find(all.Table, destURI, destination); err != nil {
			return nil, err
		}
		if err := noChoice(u); err != nil {
			return nil, err
		}
		s.dest = &side{name: destination, uri: u, hosts: a.hosts(u)}
	}
	env, err := s.env(s.source, s.dest)
	if err != nil {
		return nil, err
	}
	from := env // images are read with the source's client, also once env is the destination's
	env.Open = func(_ context.Context, ref oci.Ref) (oci.Source, error) { return registry.Open(ref, from) }
	if s.images, err = kind.Source(ctx, s.source.uri, env); err != nil {
		return nil, err
	}
	if a.onlyFirst {
		s.images = firstImage{s.images, a.warnf}
	}
	if err := s.settleHosts(ctx); err != nil {
		s.close()
		return nil, err
	}
	if a.disc.minExpected > 0 {
		s.images = discover.AtLeast(s.images, a.disc.minExpected)
	}
	if s.dest != nil {
		if env, err = s.env(s.dest, s.source); err == nil {
			s.target, err = s.openTarget(ctx, env)
		}
		if err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// find reads a URI and gives its kind.
func (a *app) find(t backend.Table, raw, role string) (backend.URI, backend.Kind, error) {
	u, err := backend.ParseURI(raw)
	if err != nil {
		return u, backend.Kind{}, err
	}
	kind, err := t.Find(u.Scheme, role)
	if err != nil {
		return u, kind, err
	}
	if err := kind.CheckOptions(u); err != nil {
		return u, kind, err
	}
	n, err := u.OptionInt("max_workers")
	if n > 0 {
		a.work.blobs = n
		a.sayf("max_workers=%d is for the whole run here, as --parallel %d", n, n)
	}
	return u, kind, err
}

// dockerCerts is where docker's own client would have certificates from; "" unless
// it is told to speak TLS.
func (a *app) dockerCerts() string {
	if a.getenv("DOCKER_TLS_VERIFY") == "" {
		return ""
	}
	return cmp.Or(a.getenv("DOCKER_CERT_PATH"), a.getenv("DOCKER_CONFIG"), filepath.Join(a.getenv("HOME"), ".docker"))
}

// env is what the place of side s is opened with.
func (s *session) env(one, other *side) (backend.Env, error) {
	a := s.app
	creds, err := a.credentials(one)
	if err != nil {
		return backend.Env{}, err
	}
	var peer *transport.Transport
	if len(s.transports) > 0 {
		peer = s.transports[0]
	}
	t, plain, err := a.transport(one.name, one.uri, creds, peer)
	if err != nil {
		return backend.Env{}, err
	}
	s.transports = append(s.transports, t)
	return backend.Env{
		HTTP:        t.Client(),
		PlainHTTP:   plain,
		APIToken:    a.apiToken(one, other),
		QuayHost:    a.disc.quayHost,
		Parallel:    a.work.blobs,
		Visibility:  a.names.visibility,
		Compression: a.names.compression,
		RepoTags:    a.names.repoTags,
		DockerHost:  a.getenv("DOCKER_HOST"),
		DockerCerts: a.dockerCerts(),
		CacheDir:    a.disc.cacheDir,
		Log:         a.log,
		Warn:        a.warnf,
	}, nil
}

// hosts gives the registries that u names.
func (a *app) hosts(u backend.URI) []string {
	switch u.Scheme {
	case "registry":
		host, _, _ := strings.Cut(u.Rest, "/")
		return []string{host}
	case "quay":
		for _, h := range []string{u.Option("host"), a.disc.quayHost, "quay.io"} {
			if h != "" {
				return []string{h}
			}
		}
	}
	return nil
}

// settleHosts learns a list's registries, and then sees to it that nobody gets
// credentials that are another's.
func (s *session) settleHosts(ctx context.Context) error {
	if err := s.listHosts(ctx, s.source, s.images, "--src-creds", s.app.creds.srcCreds); err != nil {
		return err
	}
	if s.dest == nil {
		return s.app.oneHost(s.source)
	}
	return s.app.oneHost(s.source, s.dest)
}

// listHosts learns the registries of images if one is a list: they stand in the
// list itself. creds, which flag gives, are for one of them.
func (s *session) listHosts(ctx context.Context, one *side, images backend.Images, flag, creds string) error {
	if one.uri.Scheme != "list" {
		return nil
	}
	seen := map[string]bool{}
	for item, err := range images.Discover(ctx) {
		if err != nil {
			return err
		}
		if !seen[item.Ref.Registry] {
			seen[item.Ref.Registry] = true
			one.hosts = append(one.hosts, item.Ref.Registry)
		}
	}
	if len(one.hosts) > 1 && creds != "" {
		return oci.Usage(flag + " is for one registry, but the list names " + strings.Join(one.hosts, " and ") + "; use an auth file")
	}
	return nil
}

// close releases the places and their connections.
func (s *session) close() {
	if s.target != nil {
		if err := s.target.Close(); err != nil {
			s.app.warnf(err.Error())
		}
	}
	if s.images != nil {
		if err := s.images.Close(); err != nil {
			s.app.warnf(err.Error())
		}
	}
	if s.second != nil {
		if err := s.second.images.Close(); err != nil {
			s.app.warnf(err.Error())
		}
	}
	for _, t := range s.transports {
		t.CloseIdle()
	}
}
