package dockerpush

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is dockerpush://IMAGE[:TAG].
var Kind = backend.Kind{
	Scheme: "dockerpush",
	Help:   "an image that a Docker or Podman daemon on this machine pushes to us, layers in parallel: dockerpush://IMAGE[:TAG]",
	Options: map[string]string{
		"socket": "path of the daemon's socket; else DOCKER_HOST, else /var/run/docker.sock",
	},
	Source: open,
}

func open(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	ref, name, err := parse(u)
	if err != nil {
		return nil, err
	}
	client, err := engine.New(cmp.Or(u.Option("socket"), env.DockerHost), env.DockerCerts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	if !client.Local() {
		return nil, oci.Usage(fmt.Sprintf("%s: the daemon at %s is on another machine and can't push to this one; read it by docker://%s", u, client, name))
	}
	return &images{ref, newSource(client, ref, name, env)}, nil
}

// nowhere stands in for the registry of names that have none.
const nowhere = "nowhere.invalid"

// parse reads the image's name: as the daemon shows it, without docker.io where
// the name has no registry; and what the daemon is asked for, which always has a
// tag or digest.
func parse(u backend.URI) (ref oci.Ref, name string, err error) {
	ref, err = oci.ParseRef(u.Rest, nowhere)
	if err != nil {
		return ref, "", oci.Usage(fmt.Sprintf("%s: %q is no image's name: write IMAGE[:TAG]", u, u.Rest))
	}
	name = u.Rest
	if ref.Repository == "sha256" && ref.Digest == "" {
		// An image that has no name loses its only one, and thereby itself, when
		// the tag that we gave it is removed.
		return ref, "", oci.Usage(fmt.Sprintf("%s: an image is pushed by its name, not by its ID; tag it first", u))
	}
	switch {
	case ref.Digest != "": // which decides, tag or not
		repository, _, _ := strings.Cut(name, "@")
		name = strings.TrimSuffix(repository, ":"+ref.Tag) + "@" + string(ref.Digest)
	case ref.Tag == "":
		ref.Tag = "latest"
		name += ":latest"
	}
	if ref.Registry == nowhere {
		ref.Registry = ""
	}
	return ref, name, nil
}

// images is the one image of a URI.
type images struct {
	ref    oci.Ref
	source *source
}

// Discover gives the image without asking the daemon.
func (i *images) Discover(context.Context) iter.Seq2[oci.Item, error] {
	item := oci.Item{Ref: i.ref, Bytes: -1}
	item.Ref.Digest = ""
	return func(yield func(oci.Item, error) bool) { yield(item, nil) }
}

// Listing implements [oci.Lister].
func (i *images) Listing() oci.Listing { return oci.Listing{Found: 1, Done: true, Repositories: 1} }

func (i *images) Bulk() bool { return false }

func (i *images) Source(context.Context, oci.Item) (oci.Source, error) { return i.source, nil }

func (i *images) Close() error { return i.source.close() }
