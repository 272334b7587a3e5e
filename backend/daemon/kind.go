package daemon

import (
	"cmp"
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is docker://IMAGE[:TAG|@DIGEST][?socket=PATH].
var Kind = backend.Kind{
	Scheme:  "docker",
	Aliases: []string{"daemon"},
	Help:    "an image in a Docker or Podman daemon: docker://IMAGE[:TAG][?socket=PATH]; as a destination of many images docker://",
	Options: map[string]string{
		"socket":    "where the daemon is: PATH, unix://PATH or tcp://HOST:PORT; without it DOCKER_HOST, else /var/run/docker.sock",
		"repo_tags": "full (default): images get their source's whole name; basename: host and namespace are left out, as occystrap does",
	},
	Source: source,
	Target: target,
}

func dial(u backend.URI, env backend.Env) (*engine.Client, error) {
	if u.User != "" {
		return nil, oci.Usage(fmt.Sprintf("%s: a daemon knows no logins; for a registry write registry://…", u))
	}
	c, err := engine.New(cmp.Or(u.Option("socket"), env.DockerHost), env.DockerCerts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	return c, nil
}

func source(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	name, err := parseName(u.Rest)
	if err != nil {
		return nil, oci.Usage(fmt.Sprintf("%s: %v; write docker://IMAGE[:TAG]", u, err))
	}
	c, err := dial(u, env)
	if err != nil {
		return nil, err
	}
	return &images{image: &image{client: c, name: name}}, nil
}

func target(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	p := &place{basename: cmp.Or(u.Option("repo_tags"), env.RepoTags) == "basename"}
	switch o := u.Option("repo_tags"); o {
	case "", "full", "basename":
	default:
		return nil, oci.Usage(fmt.Sprintf("%s: option repo_tags=%s: write full or basename", u, o))
	}
	if u.Rest != "" {
		name, err := parseName(u.Rest)
		if err == nil && name.ref.Tag == "" {
			err = fmt.Errorf("%q is no name that an image can be given", u.Rest)
		}
		if err != nil {
			return nil, oci.Usage(fmt.Sprintf("%s: %v; write docker://IMAGE:TAG, or docker:// to keep names", u, err))
		}
		p.name = &name.ref
	}
	c, err := dial(u, env)
	if err != nil {
		return nil, err
	}
	p.client = c
	return p, nil
}
