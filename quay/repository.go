package quay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A Repository is one entry of a listing.
type Repository struct {
	Namespace string
	Name      string // within the namespace; may hold slashes
	Public    bool
	State     string // "NORMAL", "READ_ONLY", "MIRROR", "ORG_MIRROR"; "" if the server doesn't say
	// LastModified is when the newest of the live tags was set, UTC, with a
	// resolution of one second. Zero if it was not asked for, or if there is no
	// live tag.
	LastModified time.Time
}

// Path gives namespace/name.
func (r Repository) Path() string { return r.Namespace + "/" + r.Name }

// RepositoryOptions say what [Client.Repositories] asks for. The zero value
// asks for names alone.
type RepositoryOptions struct {
	LastModified bool // fill in Repository.LastModified
	// Skipped is told of each entry that was left out, by an error that
	// matches [oci.ErrInvalid]. nil: nobody is.
	Skipped func(error)
}

// Repositories lists what the token may see of namespace, public repositories
// included, in the order in which they were created, 100 by request. A
// namespace that isn't there is empty.
//
// Errors after the first page match [oci.ErrIncomplete], among them a server
// that starts over: Quay answers an expired or unknown page token with the
// first page. A malformed namespace is [oci.ErrUsage].
//
// Source: GET /api/v1/repository.
func (c *Client) Repositories(ctx context.Context, namespace string, opt RepositoryOptions) iter.Seq2[Repository, error] {
	return func(yield func(Repository, error) bool) {
		l := repositoryListing{c: c, namespace: namespace, opt: opt, seen: map[string]bool{}, tokens: map[string]bool{}}
		if err := l.run(ctx, yield); err != nil {
			yield(Repository{}, oci.Wrap(err, "list repositories of", c.ref(namespace), oci.Descriptor{}))
		}
	}
}

// repositoryListing is one pass over the pages of a namespace.
type repositoryListing struct {
	c         *Client
	namespace string
	opt       RepositoryOptions
	seen      map[string]bool // repositories, by name
	tokens    map[string]bool // of pages
}

func (l *repositoryListing) run(ctx context.Context, yield func(Repository, error) bool) error {
	if !oci.ValidRepository(l.namespace) || strings.Contains(l.namespace, "/") {
		return oci.Usage(fmt.Sprintf("%q is no organisation of Quay", l.namespace))
	}
	for page, token := 1, ""; ; page++ {
		entries, next, err := l.page(ctx, token)
		if err != nil {
			return incomplete(err, page)
		}
		for _, r := range entries {
			if l.seen[r.Name] {
				return loop(page, fmt.Sprintf("the server lists %s again", r.Path()))
			}
			l.seen[r.Name] = true
			if !yield(r, nil) {
				return nil
			}
		}
		switch {
		case next == "":
			return nil
		case l.tokens[next]:
			return loop(page, "the server gives a page token again")
		case len(entries) == 0 && page > 1:
			return loop(page, "the server gives empty pages")
		case len(l.seen) > maxListing:
			return fmt.Errorf("%w: over %d repositories: %w", oci.ErrIncomplete, maxListing, oci.ErrTooLarge)
		}
		l.tokens[next] = true
		token = next
	}
}

// loop is the error of a listing that would not end.
func loop(page int, why string) error {
	return fmt.Errorf("%w: page %d: %s", oci.ErrIncomplete, page, why)
}

// page fetches the page of token, "" for the first, and the token of the next.
func (l *repositoryListing) page(ctx context.Context, token string) ([]Repository, string, error) {
	// The page token holds no filters: all of them are sent with each page.
	q := url.Values{"namespace": {l.namespace}, "public": {"true"}}
	if l.opt.LastModified {
		q.Set("last_modified", "true")
	}
	if token != "" {
		q.Set("next_page", token)
	}
	r := request{path: "/repository", query: q}
	a, err := l.c.do(ctx, r)
	if err != nil {
		return nil, "", err
	}
	p, err := decodeRepositories(r, a)
	if err != nil {
		return nil, "", err
	}
	var entries []Repository
	for _, raw := range *p.Repositories {
		entry, err := raw.repository(l.namespace)
		switch {
		case err != nil && l.opt.Skipped != nil:
			l.opt.Skipped(err)
		case err == nil && (raw.Kind == "" || raw.Kind == "image"):
			entries = append(entries, entry)
		}
	}
	return entries, p.NextPage, nil
}

// The wire form. The type of what isn't needed is not looked at.
type (
	repositoryPage struct {
		Repositories *[]rawRepository `json:"repositories"`
		NextPage     string           `json:"next_page"` // absent on the last page
	}
	rawRepository struct {
		Namespace    string  `json:"namespace"`
		Name         string  `json:"name"`
		Public       bool    `json:"is_public"`
		Kind         string  `json:"kind"`
		State        string  `json:"state"`         // null in theory
		LastModified integer `json:"last_modified"` // seconds; null without a live tag; absent unless asked for
	}
)

func decodeRepositories(r request, a answer) (repositoryPage, error) {
	var p repositoryPage
	if err := a.decode(r, &p); err != nil {
		return p, err
	}
	if p.Repositories == nil {
		return p, fmt.Errorf("%s: %w: it has no repositories", r, ErrNotQuay)
	}
	return p, nil
}

func (raw rawRepository) repository(namespace string) (Repository, error) {
	r := Repository{Namespace: namespace, Name: raw.Name, Public: raw.Public, State: raw.State, LastModified: raw.LastModified.time()}
	if raw.Namespace != "" && raw.Namespace != namespace {
		return r, fmt.Errorf("%w: a repository of the organisation %q in the listing of %s", oci.ErrInvalid, raw.Namespace, namespace)
	}
	if !oci.ValidRepository(r.Path()) {
		return r, fmt.Errorf("%w: %q is no repository name", oci.ErrInvalid, raw.Name)
	}
	return r, nil
}

// A RepositoryDetail is what Quay says of one repository.
type RepositoryDetail struct {
	Repository
	CanWrite bool // the token may, and the state is NORMAL
	CanAdmin bool
	// Restorable is how long deleted tags can be restored.
	Restorable time.Duration
}

// Repository gives the detail of repo ("namespace/name"). [NotVisible] tells
// the error of a repository that isn't there or isn't the token's to see.
//
// Source: GET /api/v1/repository/{repository}.
func (c *Client) Repository(ctx context.Context, repo string) (RepositoryDetail, error) {
	d, err := c.repository(ctx, repo)
	return d, oci.Wrap(err, "read repository", c.ref(repo), oci.Descriptor{})
}

func (c *Client) repository(ctx context.Context, repo string) (RepositoryDetail, error) {
	namespace, _, err := splitRepository(repo)
	if err != nil {
		return RepositoryDetail{}, err
	}
	r := request{path: apiPath("repository", repo), query: url.Values{"includeTags": {"false"}}}
	a, err := c.do(ctx, r)
	if err != nil {
		return RepositoryDetail{}, err
	}
	var raw struct {
		rawRepository
		CanWrite   bool    `json:"can_write"`
		CanAdmin   bool    `json:"can_admin"`
		Restorable integer `json:"tag_expiration_s"`
	}
	if err := a.decode(r, &raw); err != nil {
		return RepositoryDetail{}, err
	}
	entry, err := raw.repository(namespace)
	if err == nil && entry.Path() != repo {
		err = fmt.Errorf("%w: the answer is about %s", oci.ErrInvalid, entry.Path())
	}
	return RepositoryDetail{
		Repository: entry, CanWrite: raw.CanWrite, CanAdmin: raw.CanAdmin,
		Restorable: time.Duration(raw.Restorable.n) * time.Second,
	}, err
}

// splitRepository checks repo and gives its two parts.
func splitRepository(repo string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(repo, "/")
	if !ok || !oci.ValidRepository(repo) {
		return "", "", oci.Usage(fmt.Sprintf("%q is no repository of Quay; write organisation/name", repo))
	}
	return namespace, name, nil
}

// ErrExists means that a repository to be created is there already.
var ErrExists = errors.New("it exists already")

// A Visibility is who may read a repository.
type Visibility string

// The visibilities of Quay.
const (
	Public  Visibility = "public"
	Private Visibility = "private"
)

// CreateRepository makes repo ("namespace/name"). It returns an error matching
// [ErrExists] if it is there, and [oci.ErrDenied] if the token may not.
//
// Source: POST /api/v1/repository.
func (c *Client) CreateRepository(ctx context.Context, repo string, v Visibility) error {
	namespace, name, err := splitRepository(repo)
	if err == nil {
		_, err = c.do(ctx, request{method: http.MethodPost, path: "/repository", body: map[string]string{
			"namespace": namespace, "repository": name, "visibility": string(v), "description": "",
		}})
	}
	// Quay has no code of its own for it.
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusBadRequest && strings.Contains(e.Message, "already exists") {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	return oci.Wrap(explainWrite(err), "create repository", c.ref(repo), oci.Descriptor{})
}

// ChangeVisibility sets who may read repo ("namespace/name"). It needs a token
// that administers repo, else the error matches [oci.ErrDenied]; where there
// is no such repository it matches [oci.ErrNotFound].
//
// Source: POST /api/v1/repository/{repository}/changevisibility.
func (c *Client) ChangeVisibility(ctx context.Context, repo string, v Visibility) error {
	_, _, err := splitRepository(repo)
	if err == nil {
		r := request{method: http.MethodPost, path: apiPath("repository", repo, "changevisibility"), body: map[string]string{"visibility": string(v)}}
		var a answer
		if a, err = c.do(ctx, r); err == nil && strings.TrimSpace(string(a.body)) == "null" {
			err = fmt.Errorf("%s: %w", r, oci.ErrNotFound) // Quay's 200 for a repository that isn't there
		}
	}
	return oci.Wrap(explainWrite(err), "change visibility of", c.ref(repo), oci.Descriptor{})
}

// DeleteRepository deletes repo ("namespace/name") with all that is in it, which
// no time machine brings back. It needs a token that administers repo, else the
// error matches [oci.ErrDenied].
//
// No error doesn't mean that it was there: an administrator of the namespace gets
// Quay's 204 for any name. [Client.Repository] tells, before. V2 may give the
// repository's content for two minutes more.
//
// Source: DELETE /api/v1/repository/{repository}.
func (c *Client) DeleteRepository(ctx context.Context, repo string) error {
	_, _, err := splitRepository(repo)
	if err == nil {
		_, err = c.do(ctx, request{method: http.MethodDelete, path: apiPath("repository", repo)})
	}
	return oci.Wrap(explainWrite(err), "delete repository", c.ref(repo), oci.Descriptor{})
}
