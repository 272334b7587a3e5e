package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// accept is every manifest type by its full name: Quay converts what isn't
// named literally, to another digest. The signed schema 1 is last so that it
// comes as what it is, and is refused by name, and not as "not found".
var accept = strings.Join([]string{
	oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest, oci.MediaTypeDockerSigned1,
}, ", ")

// A repo is one repository as requests see it.
type repo struct {
	http *http.Client
	ref  oci.Ref // as the user writes it; its tag or digest is what "" means
	path string  // as the registry knows it: "library/alpine"

	scheme, host string // "https", "registry-1.docker.io"

	warn  func(format string, args ...any) // tells the user one line
	facts *sync.Map                        // what was learnt of the registry, by key
}

func newRepo(ref oci.Ref, env backend.Env) (*repo, error) {
	if !oci.ValidHost(ref.Registry) || !oci.ValidRepository(ref.Repository) {
		return nil, oci.Usage(fmt.Sprintf("%q names no repository of a registry", ref))
	}
	scheme := "https"
	if env.PlainHTTP {
		scheme = "http"
	}
	host := wireHost(ref.Registry)
	return &repo{
		http:   env.HTTP,
		ref:    ref,
		path:   wirePath(ref.Registry, ref.Repository),
		scheme: scheme,
		host:   host,
		warn:   env.Warnf,
		facts:  transport.Facts(env.HTTP, &url.URL{Scheme: scheme, Host: host}),
	}, nil
}

// sibling is another repository of the same registry.
func (r *repo) sibling(repository string) *repo {
	s := *r
	s.ref = oci.Ref{Registry: r.ref.Registry, Repository: repository}
	s.path = wirePath(r.ref.Registry, repository)
	return &s
}

func isDockerHub(host string) bool { return host == "docker.io" || host == "index.docker.io" }

// wireHost gives the host that answers for registry.
func wireHost(registry string) string {
	if isDockerHub(registry) {
		return "registry-1.docker.io"
	}
	return registry
}

// wirePath gives the repository as registry knows it.
func wirePath(registry, repository string) string {
	if (isDockerHub(registry) || registry == "registry-1.docker.io") && !strings.Contains(repository, "/") {
		return "library/" + repository
	}
	return repository
}

// Place names the repository of ref so that its other spellings have the same name:
// Docker Hub's, a host in capitals, a port that goes without saying.
func Place(ref oci.Ref) string {
	host := strings.ToLower(ref.Registry)
	for _, port := range []string{":443", ":80"} {
		host = strings.TrimSuffix(host, port)
	}
	return wireHost(host) + "/" + wirePath(host, ref.Repository)
}

// url gives the address of something in the repository.
func (r *repo) url(suffix string) string { return r.scheme + "://" + r.host + "/v2/" + r.path + suffix }

// What a request needs. Asking Quay for push creates the repository, so a
// request that only reads never does.
func (r *repo) pull() string { return auth.ScopeRepository(r.path, auth.ActionPull) }
func (r *repo) push() string {
	return auth.ScopeRepository(r.path, auth.ActionPull, auth.ActionPush)
}

// expect says that requests which need scopes are to come. It makes none.
func (r *repo) expect(scopes ...string) {
	transport.Expect(r.http, &url.URL{Scheme: r.scheme, Host: r.host}, scopes...)
}

// request makes a request that needs scopes. They replace those of ctx: a
// context that comes from an upload must not ask the source for push.
func (r *repo) request(ctx context.Context, method, address string, scopes ...string) (*http.Request, error) {
	return http.NewRequestWithContext(auth.WithScopes(ctx, scopes...), method, address, nil)
}

// do sends a request without a body.
func (r *repo) do(ctx context.Context, method, address string, scopes ...string) (*http.Response, error) {
	req, err := r.request(ctx, method, address, scopes...)
	if err != nil {
		return nil, err
	}
	return r.send(req)
}

// send is http.Client's Do with errors that hold no address: those of uploads
// and of signed redirects are secrets.
func (r *repo) send(req *http.Request) (*http.Response, error) {
	resp, err := r.http.Do(req)
	return resp, transport.Clean(err)
}

// location gives the address that resp sends to for the next request. It may
// be relative, and on another host, which the transport then meets as a
// stranger; but what began with TLS doesn't go on without.
func location(resp *http.Response) (*url.URL, error) {
	at, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("%w: %s answered %s without a Location", oci.ErrInvalid, resp.Request.URL.Host, resp.Status)
	}
	switch {
	case at.Scheme != "http" && at.Scheme != "https", at.Host == "", at.User != nil:
		return nil, fmt.Errorf("%w: %s sends to a Location that is no address", oci.ErrInvalid, resp.Request.URL.Host)
	case resp.Request.URL.Scheme == "https" && at.Scheme != "https":
		return nil, fmt.Errorf("%w: %s sends from https to http://%s", oci.ErrRefused, resp.Request.URL.Host, at.Host)
	}
	return at, nil
}

// finish reads the rest of a body that doesn't matter, so that its connection
// can be used again, and closes it.
func finish(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // what fails here failed for a request that is over
	_ = resp.Body.Close()
}

// reference checks a tag or digest before it becomes part of an address.
func (r *repo) reference(ref string) (string, error) {
	if ref == "" {
		ref = r.ref.Reference()
	}
	if !oci.ValidTag(ref) && oci.ValidDigest(oci.Digest(ref)) != nil {
		return "", fmt.Errorf("%q is neither a tag nor a digest: %w", ref, oci.ErrInvalid)
	}
	return ref, nil
}

// label names reference ref of the repository in messages.
func (r *repo) label(ref string) string {
	if oci.IsDigest(ref) {
		return r.ref.Name() + "@" + ref
	}
	return r.ref.Name() + ":" + ref
}
