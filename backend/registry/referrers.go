package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"net/url"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// maxReferrers bounds what refers to one manifest.
const maxReferrers = 1 << 16

// referrersAPI is the fact that a registry has the referrers API, or hasn't: a bool.
const referrersAPI = "referrers API"

// Referrers implements [oci.ReferrerLister]: by the API, or where the registry has
// none by the tag that the distribution specification has in its place. What can't
// be a descriptor of a manifest is left out, with a word to the user.
//
// Errors are as those of Tags.
func (r *repo) Referrers(ctx context.Context, subject oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		l := referrerListing{repo: r, kind: artifactType, seen: map[oci.Digest]bool{}, yield: yield}
		if err := l.run(ctx, subject); err != nil {
			yield(oci.Descriptor{}, oci.Wrap(err, "list referrers of", r.label(string(subject)), oci.Descriptor{}))
		}
	}
}

// A referrerListing is one pass over what refers to a manifest.
type referrerListing struct {
	*repo
	kind  string // artifactType, "" for all
	seen  map[oci.Digest]bool
	yield func(oci.Descriptor, error) bool
}

func (l *referrerListing) run(ctx context.Context, subject oci.Digest) error {
	if err := oci.ValidDigest(subject); err != nil {
		return err
	}
	if has, known := l.hasReferrersAPI(); known && !has {
		return l.byTag(ctx, subject)
	}
	suffix := "/referrers/" + string(subject)
	if l.kind != "" {
		suffix += "?artifactType=" + url.QueryEscape(l.kind)
	}
	err := l.pages(ctx, suffix, oci.MediaTypeIndex, oci.MaxManifestSize, l.take)
	if errors.Is(err, oci.ErrIncomplete) {
		return err
	}
	switch has, sure := l.noteReferrersAPI(err); {
	case err == nil:
		return nil
	case has && sure: // Quay's answer for a subject that it doesn't know
		return nil
	case !has:
		return l.byTag(ctx, subject)
	}
	return err
}

// errNotReferrers means a page that is no answer of the referrers API, as of a
// server that answers everything with its front page.
var errNotReferrers = errors.New("no list of referrers")

// noteReferrersAPI says what err, the outcome of asking for referrers, says of the
// registry, and keeps it if that is sure. An error that says nothing is true, false.
//
// Registries without the API answer 404, some 405 or 501. A 404 with a code of the
// specification may be about the repository; then the tag will not be there either.
func (r *repo) noteReferrersAPI(err error) (has, sure bool) {
	e := status(err)
	switch {
	case err == nil:
		has, sure = true, true
	case errors.Is(err, errNotReferrers):
		has, sure = false, true
	case e == nil:
		return true, false
	case e.Status == http.StatusBadRequest && e.Code == "MANIFEST_INVALID":
		has, sure = true, true
	case e.Status == http.StatusNotFound:
		has, sure = false, !Absent(err)
	case e.Status == http.StatusMethodNotAllowed, e.Status == http.StatusNotImplemented,
		e.Status == http.StatusBadRequest && e.Code == "UNSUPPORTED":
		has, sure = false, true
	default:
		return true, false
	}
	if sure {
		r.facts.Store(referrersAPI, has)
	}
	return has, sure
}

func (r *repo) hasReferrersAPI() (has, known bool) {
	v, known := r.facts.Load(referrersAPI)
	has, _ = v.(bool)
	return has, known
}

func (l *referrerListing) take(header http.Header, body []byte) (all, fresh int, done bool, err error) {
	list, err := l.parseReferrers(header, body)
	if err == nil {
		fresh, done, err = l.give(list)
	}
	return len(list), fresh, done, err
}

func (r *repo) parseReferrers(header http.Header, body []byte) ([]oci.Descriptor, error) {
	m, err := oci.ParseManifest(oci.MediaTypeIndex, body)
	if err == nil {
		return m.Manifests, nil
	}
	if mt, _, _ := mime.ParseMediaType(header.Get("Content-Type")); mt != oci.MediaTypeIndex {
		err = fmt.Errorf("%w: %s answered %w", oci.ErrInvalid, r.host, errNotReferrers)
	}
	return nil, err
}

// give yields what is new of list, and of the kind that is asked for: a registry
// needn't have filtered.
func (l *referrerListing) give(list []oci.Descriptor) (fresh int, done bool, err error) {
	for _, d := range list {
		if l.seen[d.Digest] {
			continue
		}
		if len(l.seen) == maxReferrers {
			return 0, false, fmt.Errorf("%w: over %d referrers: %w", oci.ErrIncomplete, maxReferrers, oci.ErrTooLarge)
		}
		l.seen[d.Digest] = true
		fresh++
		if !oci.IsManifestType(d.MediaType) {
			l.warn("%s lists a referrer of type %q, which is no manifest; it is left out", l.ref.Name(), transport.Text(d.MediaType, 60))
			continue
		}
		if (l.kind == "" || d.ArtifactType == l.kind) && !l.yield(d, nil) {
			return 0, true, nil
		}
	}
	return fresh, false, nil
}

// byTag lists what the index under the subject's own tag names.
func (l *referrerListing) byTag(ctx context.Context, subject oci.Digest) error {
	tag := referrersTag(subject)
	desc, raw, err := l.Resolve(ctx, tag)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return nil
	case err != nil:
		return err
	case !oci.IsIndexType(desc.MediaType):
		l.warn("%s is no list of referrers, though its name says so; it is left out", l.label(tag))
		return nil
	}
	m, err := oci.ParseManifest(desc.MediaType, raw)
	if err != nil {
		return err
	}
	_, _, err = l.give(m.Manifests)
	return err
}
