package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// History lists what the tag ref meant and means, newest first, by Quay's API. An
// entry says from when until when the tag had a digest; the End of one may be still
// to come. What Quay's time machine has dropped isn't there any more.
//
// Anybody may read the history of a public repository. For a private one Dest has to
// have an API token for the host, or the error matches [oci.ErrDenied]; for a
// repository that isn't there it is the same. Of a tag that never was there are no
// entries. A registry that is no Quay keeps no history: [oci.ErrUnsupported].
func (p *Publisher) History(ctx context.Context, ref oci.Ref) iter.Seq2[quay.Tag, error] {
	return func(yield func(quay.Tag, error) bool) {
		entries, err := p.history(ctx, ref)
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(quay.Tag{}, oci.Wrap(err, "read history of", ref.String(), oci.Descriptor{}))
		}
	}
}

// history reads all of the tag's entries: the newest needn't be Quay's first.
func (p *Publisher) history(ctx context.Context, ref oci.Ref) ([]quay.Tag, error) {
	if ref.Tag == "" || ref.Digest != "" {
		return nil, oci.Usage("only a tag has a history; write host/repository:tag")
	}
	if !strings.Contains(ref.Repository, "/") && ref.Registry != p.home() {
		return nil, fmt.Errorf("%w: only a Quay keeps histories, and no Quay has a repository called %s", oci.ErrUnsupported, ref.Repository)
	}
	var entries []quay.Tag
	opt := quay.TagOptions{History: true, Name: ref.Tag, Skipped: func(err error) { p.warn(err.Error()) }}
	for e, err := range p.reader(ref.Registry).Tags(ctx, ref.Repository, opt) {
		if err != nil {
			return nil, p.explainAPI(err, ref.Registry)
		}
		entries = append(entries, e)
	}
	// Of two with one start, a second's resolution, Quay's order counts.
	slices.SortStableFunc(entries, func(a, b quay.Tag) int { return b.Start.Compare(a.Start) })
	return entries, nil
}

// home is the Quay that a user means who names none.
func (p *Publisher) home() string { return cmp.Or(p.Dest.QuayHost, quay.DefaultHost) }

// reader gives the client of host's API, a stranger's if there is no token for it.
// What it reads of one repository is the same for strangers, if they may see it.
func (p *Publisher) reader(host string) *quay.Client {
	if c := p.quay(host); c != nil {
		return c
	}
	return &quay.Client{Host: host, HTTP: p.Dest.HTTP, PlainHTTP: p.Dest.PlainHTTP}
}

// notQuay reports whether an error of the API shows that no Quay answers: Quay's own
// 404 names its type.
func notQuay(err error) bool {
	e, _ := errors.AsType[*quay.StatusError](err)
	return errors.Is(err, quay.ErrNotQuay) || e != nil && e.Status == http.StatusNotFound && e.Type == ""
}

// explainAPI says what the user may do about an error of host's API.
func (p *Publisher) explainAPI(err error, host string) error {
	switch {
	case notQuay(err):
		return fmt.Errorf("%w: only a Quay keeps histories, and %s doesn't answer as one: %w", oci.ErrUnsupported, host, err)
	case p.quay(host) == nil && quay.NotVisible(err):
		return fmt.Errorf("%w: without an API token only public repositories have a history: %w", oci.ErrDenied, err)
	}
	return err
}
