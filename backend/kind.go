package backend

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Kind is one way to name a place where images live.
type Kind struct {
	Scheme  string   // "registry"
	Aliases []string // further schemes that mean the same
	Help    string   // one line: what it is and how the URI goes
	// Options are the names of the URI's options and what each does. Any other
	// name is an error.
	Options map[string]string
	// Path says that the URI is PATH[:REF] of a file or folder ([URI.Path]). As a
	// destination, the path may have placeholders ([Template]).
	Path bool
	// Source opens the place to be read from. nil: it can't be.
	Source func(ctx context.Context, u URI, env Env) (Images, error)
	// Target opens the place to be written to. nil: it can't be.
	Target func(ctx context.Context, u URI, env Env) (oci.Target, error)
}

// Env is what places are opened with. It comes from the command line.
type Env struct {
	// HTTP carries credentials, limits and retries of this side. Never nil.
	HTTP *http.Client
	// PlainHTTP speaks http:// to registries.
	PlainHTTP bool
	// APIToken is an OAuth 2 access token for Quay's API; "" is anonymous.
	APIToken string
	// QuayHost is the Quay that quay:// means; "" is quay.io.
	QuayHost string
	// Parallel bounds the requests that a listing makes at once. 0 means 4.
	Parallel int
	// Visibility is what repositories that are created in Quay are set to:
	// "public", "private", or "" to leave Quay's default.
	Visibility string
	// Compression is the [oci.Traits] Compression of targets whose URI has no
	// option compression; "" keeps.
	Compression string
	// RepoTags is "full" (or "") or "basename": how docker's archives and daemons
	// are told the names of images whose URI has no option repo_tags.
	RepoTags string
	// DockerHost is where docker:// and dockerpush:// without ?socket= find the
	// daemon, in the form of DOCKER_HOST; "" is unix:///var/run/docker.sock.
	DockerHost string
	// DockerCerts is the folder of ca.pem, cert.pem and key.pem for a daemon at
	// tcp://; "" is no TLS.
	DockerCerts string
	// CacheDir keeps listings between runs; "" keeps none.
	CacheDir string
	// Log takes details. nil discards them.
	Log *slog.Logger
	// Warn takes one line that the user should see. nil discards it.
	Warn func(string)
	// Open opens the repository of ref; discoveries have their images read by it.
	Open func(ctx context.Context, ref oci.Ref) (oci.Source, error)
}

// Warnf tells the user one line.
func (e Env) Warnf(format string, args ...any) {
	if e.Warn != nil {
		e.Warn(fmt.Sprintf(format, args...))
	}
}

// Logger gives Log, or one that discards.
func (e Env) Logger() *slog.Logger {
	if e.Log != nil {
		return e.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Images are what a source URI stands for: one image, or any number.
type Images interface {
	oci.Discoverer
	io.Closer
	// Bulk reports whether the URI stands for any number of images, however
	// many it is now. It decides whether JSON is an array and how destinations
	// are named.
	Bulk() bool
	// Source opens the place that holds item. Its Resolve takes item's digest,
	// or its tag, and names within the place.
	Source(ctx context.Context, item oci.Item) (oci.Source, error)
}

// A Table is a list of kinds that URIs are looked up in.
type Table []Kind

// Find gives the kind of scheme. The error matches [oci.ErrUsage] and lists
// the schemes that role ("source" or "destination") can have, or says what the
// user may have meant.
func (t Table) Find(scheme, role string) (Kind, error) {
	var names []string
	for _, k := range t {
		can := role == "source" && k.Source != nil || role == "destination" && k.Target != nil
		if k.Scheme == scheme || slices.Contains(k.Aliases, scheme) {
			if !can {
				return Kind{}, oci.Usage(fmt.Sprintf("%s:// can't be a %s%s", scheme, role, meaning(k.Scheme, role)))
			}
			return k, nil
		}
		if can {
			names = append(names, k.Scheme+"://")
		}
	}
	if m := meaning(scheme, role); m != "" {
		return Kind{}, oci.Usage(fmt.Sprintf("%s:// can't be a %s%s", scheme, role, m))
	}
	return Kind{}, oci.Usage(fmt.Sprintf("unknown %s scheme %s://; use one of %s", role, scheme, strings.Join(names, ", ")))
}

// meaning gives what to write where scheme can't be role; "" if there is nothing
// to say.
func meaning(scheme, role string) string {
	if m := meant[role+" "+scheme]; m != "" {
		return ": " + m
	}
	if m := meant[scheme]; m != "" {
		return ": " + m
	}
	return ""
}

// meant says what to write instead of a scheme that is another tool's, or that
// can't be what it is used as.
var meant = map[string]string{
	"source oci":             "an OCI image layout is ocidir://; oci:// is the runtime bundle, which keeps neither manifest nor layers",
	"source mounts":          "it keeps no image; read what it was made from",
	"destination quay":       "it finds images; to push to Quay write registry://quay.io/ORGANISATION",
	"destination list":       "it names images to read; `quaymaster list` prints one",
	"destination dockerpush": "the daemon pushes there; to load an image into it write docker://",
	"docker-archive":         "an archive of docker save is tar://",
	"docker-daemon":          "the daemon is docker://",
	"podman":                 "Podman is docker:// with ?socket=",
	"containers-storage":     "Podman's images are docker:// with ?socket= of its service",
	"oci-layout":             "an OCI image layout is ocidir://",
	"http":                   "a registry is registry://, with --plain-http",
	"https":                  "a registry is registry://",
	"quay.io":                "a registry is registry://quay.io/…, an organisation quay://",
}

// CheckOptions returns an error matching [oci.ErrUsage] if u has an option that
// k doesn't know.
func (k Kind) CheckOptions(u URI) error {
	for _, name := range u.OptionNames() {
		if _, ok := k.Options[name]; !ok {
			return oci.Usage(fmt.Sprintf("%s: unknown option %q of %s://; it has %s",
				u, name, k.Scheme, strings.Join(slices.Sorted(maps.Keys(k.Options)), ", ")))
		}
	}
	return nil
}
