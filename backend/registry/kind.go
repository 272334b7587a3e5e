package registry

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is registry:// in the table of backends.
var Kind = backend.Kind{
	Scheme: "registry",
	Help:   "an image in a registry: registry://HOST/REPOSITORY[:TAG][@DIGEST]; as a destination of many images registry://HOST[/PREFIX]",
	Options: map[string]string{
		"username":     "login at this registry",
		"password":     "its password",
		"insecure":     "speak plain HTTP, as plain-http",
		"plain-http":   "speak plain HTTP",
		"tls-verify":   "false skips the check of the certificate",
		"os":           "take the image of this operating system from an index",
		"arch":         "take the image of this architecture, as architecture",
		"architecture": "take the image of this architecture from an index",
		"variant":      "take this variant of the architecture",

		"max_workers": "occystrap's: what --parallel is of the run",

		backend.CompressionOption: backend.CompressionHelp,
	},
	Source: openImage,
	Target: openTarget,
}

// parse reads the reference of u. The first part of it is a host, dot or not.
func parse(u backend.URI) (oci.Ref, error) {
	host, rest, _ := strings.Cut(u.Rest, "/")
	if !oci.ValidHost(host) {
		return oci.Ref{}, oci.Usage(fmt.Sprintf("%s: no registry host in it; write registry://HOST/REPOSITORY:TAG, and / and @ of a password as %%2F and %%40", u))
	}
	if rest == "" {
		return oci.Ref{Registry: host}, nil
	}
	// A name that can only be a host stands in for one without a dot.
	ref, err := oci.ParseRef("localhost/"+rest, "")
	if err != nil {
		return oci.Ref{}, oci.Usage(fmt.Sprintf("%s: %q is no REPOSITORY[:TAG][@DIGEST]", u, rest))
	}
	ref.Registry = host
	return ref, nil
}

func openImage(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	ref, err := parse(u)
	if err != nil {
		return nil, err
	}
	if err := backend.NoCompression(u); err != nil {
		return nil, err
	}
	if ref.Repository == "" {
		return nil, oci.Usage(fmt.Sprintf("%s names no image; write registry://%s/REPOSITORY:TAG, or for many quay://ORGANISATION or list://FILE", u, ref.Registry))
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	return image{ref, env}, nil
}

// An image is the one image of a URI.
type image struct {
	ref oci.Ref
	env backend.Env
}

// Discover gives the image without asking the registry.
func (i image) Discover(context.Context) iter.Seq2[oci.Item, error] {
	item := oci.Item{Ref: i.ref, Desc: oci.Descriptor{Digest: i.ref.Digest}, Bytes: -1}
	item.Ref.Digest = ""
	return func(yield func(oci.Item, error) bool) { yield(item, nil) }
}

// Listing implements [oci.Lister].
func (i image) Listing() oci.Listing { return oci.Listing{Found: 1, Done: true, Repositories: 1} }

// Bulk implements [backend.Images].
func (i image) Bulk() bool { return false }

// Source implements [backend.Images].
func (i image) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	ref := item.Ref
	ref.Digest = item.Desc.Digest
	return Open(ref, i.env)
}

// Close implements [backend.Images].
func (i image) Close() error { return nil }

func openTarget(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	ref, err := parse(u)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, oci.Usage(fmt.Sprintf("%s: a digest can't be chosen; name a tag", u))
	}
	switch env.Visibility {
	case "":
	case "public", "private":
		if env.APIToken == "" {
			return nil, oci.Usage("visibility is set with the API token of the destination's Quay, and there is none")
		}
	default:
		return nil, oci.Usage(fmt.Sprintf("visibility %q: write public or private", env.Visibility))
	}
	compression, err := backend.Compression(u, env)
	if err != nil {
		return nil, err
	}
	return &target{host: ref.Registry, env: env, compression: compression}, nil
}
