package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxPage bounds the bytes of one page of a listing: old registries give all
	// tags at once.
	maxPage = 32 << 20
	// maxEmpty is how many pages in a row may bring nothing new, though they name
	// a next. Registries that hide some of their entries give empty pages.
	maxEmpty = 10
)

// pages reads a listing page by page from suffix, by the Link headers. take is
// given each answer's body and says how many entries it holds, and how many of
// them were not there before; done ends the listing early. Errors behind the first
// page match [oci.ErrIncomplete].
func (r *repo) pages(ctx context.Context, suffix, accept string, limit int64, take func(header http.Header, body []byte) (all, fresh int, done bool, err error)) error {
	address, asked, empty := r.url(suffix), map[string]bool{}, 0
	for page := 1; ; page++ {
		fail := func(err error) error {
			if page > 1 {
				err = fmt.Errorf("%w: page %d: %w", oci.ErrIncomplete, page, err)
			}
			return err
		}
		asked[address] = true
		header, body, at, err := r.page(ctx, address, accept, limit)
		if err != nil {
			return fail(err)
		}
		all, fresh, done, err := take(header, body)
		if err != nil {
			return fail(err)
		}
		next, err := r.next(header, at)
		switch {
		case done:
			return nil
		case err != nil:
			return fmt.Errorf("%w: page %d: %w", oci.ErrIncomplete, page, err)
		case next == "":
			return nil
		case asked[next]:
			return fmt.Errorf("%w: page %d: the registry names a page again that was read", oci.ErrIncomplete, page)
		case fresh == 0 && all > 0:
			return fmt.Errorf("%w: page %d: the registry gives the same entries again", oci.ErrIncomplete, page)
		}
		if empty++; fresh > 0 {
			empty = 0
		}
		if empty == maxEmpty {
			return fmt.Errorf("%w: page %d: the registry gives empty pages", oci.ErrIncomplete, page)
		}
		address = next
	}
}

// page reads one page of a listing. at is its address, behind redirects.
func (r *repo) page(ctx context.Context, address, accept string, limit int64) (header http.Header, body []byte, at *url.URL, err error) {
	req, err := r.request(ctx, http.MethodGet, address, r.pull())
	if err != nil {
		return nil, nil, nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := r.send(req)
	if err != nil {
		return nil, nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, nil, answered(resp)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		err = fmt.Errorf("%w after %d bytes: %w", errTorn, len(body), transport.Clean(err))
	case int64(len(body)) > limit:
		err = fmt.Errorf("a page over %d bytes: %w", limit, oci.ErrTooLarge)
	}
	return resp.Header, body, resp.Request.URL, err
}

// next gives the address of the page behind the one at, "" if it is the last. It
// must be of the same listing: what a page of another repository would add to
// this one, or another host, is nothing that was asked for.
func (r *repo) next(header http.Header, at *url.URL) (string, error) {
	target, err := nextLink(header.Values("Link"))
	if target == "" || err != nil {
		return "", err
	}
	to, err := at.Parse(target)
	if err != nil {
		return "", fmt.Errorf("%w: the Link to the next page is no address", oci.ErrInvalid)
	}
	if !sameHost(to, at) || to.User != nil || to.Scheme != "http" && to.Scheme != "https" {
		return "", fmt.Errorf("%w: the Link to the next page leads to %s", oci.ErrRefused, transport.Text(to.Host, 100))
	}
	if to.Path != at.Path {
		return "", fmt.Errorf("%w: the Link to the next page leads to another listing, %s", oci.ErrInvalid, transport.Text(to.Path, 200))
	}
	// A registry behind a proxy that ends TLS may name http.
	to.Scheme, to.Host, to.Fragment = at.Scheme, at.Host, ""
	return to.String(), nil
}

// sameHost reports whether to is at at's host, and at its port or names none.
func sameHost(to, at *url.URL) bool {
	known := at.Port()
	if known == "" {
		known = map[string]string{"https": "443", "http": "80"}[at.Scheme]
	}
	return strings.EqualFold(to.Hostname(), at.Hostname()) && (to.Port() == "" || to.Port() == known)
}
