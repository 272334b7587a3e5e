package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// Open opens the repository of ref as a source. No request is made yet, but the
// next token that is asked for holds it too, where the service grants several
// repositories. In its methods "" means ref's digest, or else its tag. It returns
// an error matching [oci.ErrUsage] if ref names no repository of a registry.
func Open(ref oci.Ref, env backend.Env) (oci.Source, error) {
	r, err := newRepo(ref, env)
	if err != nil {
		return nil, err
	}
	r.expect(r.pull())
	return source{r}, nil
}

// A source reads one repository.
type source struct{ *repo }

// manifestReads is how often a manifest is read whose body breaks off or isn't
// what it was said to be. Answers that never came are the transport's to repeat.
const manifestReads = 3

// Resolve implements [oci.Source]. Errors match [oci.ErrNotFound],
// [oci.ErrDenied], [oci.ErrTooLarge], [oci.ErrDigestMismatch] (also where the
// registry's header names another digest than its body has), and
// [oci.ErrUnsupported] for docker's schema 1.
func (r *repo) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	ref, err := r.reference(ref)
	if err != nil {
		return oci.Descriptor{}, nil, oci.Wrap(err, "get manifest", r.ref.Name(), oci.Descriptor{})
	}
	for read := 1; ; read++ {
		d, raw, err := r.getManifest(ctx, ref)
		if err == nil {
			return d, raw, nil
		}
		torn := errors.Is(err, oci.ErrDigestMismatch) || errors.Is(err, errTorn)
		if !torn || read == manifestReads || ctx.Err() != nil {
			return oci.Descriptor{}, nil, oci.Wrap(err, "get manifest", r.label(ref), oci.Descriptor{})
		}
	}
}

// errTorn means a body that ended before its end.
var errTorn = errors.New("the answer broke off")

func (r *repo) getManifest(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	fail := func(err error) (oci.Descriptor, []byte, error) { return oci.Descriptor{}, nil, err }
	resp, err := r.manifestRequest(ctx, http.MethodGet, ref, r.pull())
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	mt := mediaType(resp)
	if mt == oci.MediaTypeDockerSchema1 || mt == oci.MediaTypeDockerSigned1 {
		_, err := oci.ParseManifest(mt, nil) // says what to do about it
		return fail(err)
	}
	if resp.ContentLength > oci.MaxManifestSize {
		return fail(fmt.Errorf("manifest of %d bytes: %w (limit %d)", resp.ContentLength, oci.ErrTooLarge, oci.MaxManifestSize))
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifestSize+1))
	if err != nil {
		return fail(fmt.Errorf("%w after %d bytes: %w", errTorn, len(raw), err))
	}
	if len(raw) > oci.MaxManifestSize {
		return fail(fmt.Errorf("manifest: %w (limit %d bytes)", oci.ErrTooLarge, oci.MaxManifestSize))
	}
	d, err := described(resp, ref, raw)
	if err != nil {
		return fail(err)
	}
	if d.MediaType = mt; !oci.IsManifestType(mt) {
		m, err := oci.ParseManifest(mt, raw) // a vague type, or a page that is no manifest
		if err != nil {
			return fail(err)
		}
		d.MediaType = m.MediaType
	}
	return d, raw, nil
}

// described computes the descriptor of raw and holds it against what was asked
// for and what the header says.
func described(resp *http.Response, ref string, raw []byte) (oci.Descriptor, error) {
	want, by := resp.Header.Get("Docker-Content-Digest"), "its header says"
	if oci.IsDigest(ref) {
		want, by = ref, "asked for"
	}
	d := oci.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if want == "" {
		return d, nil
	}
	if err := oci.ValidDigest(oci.Digest(want)); err != nil {
		return d, err
	}
	if got := oci.Digest(want).Algorithm().FromBytes(raw); string(got) != want {
		return d, fmt.Errorf("%w: %s is %s, %s %s", oci.ErrDigestMismatch, resp.Request.URL.Host, got, by, want)
	}
	d.Digest = oci.Digest(want)
	return d, nil
}

// Head implements [oci.Source]; errors are those of Resolve. Where the answer
// to HEAD lacks something it is Resolve.
func (r *repo) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	ref, err := r.reference(ref)
	if err != nil {
		return oci.Descriptor{}, oci.Wrap(err, "head manifest", r.ref.Name(), oci.Descriptor{})
	}
	resp, err := r.manifestRequest(ctx, http.MethodHead, ref, r.pull())
	if err != nil && !is(err, http.StatusMethodNotAllowed) {
		return oci.Descriptor{}, oci.Wrap(err, "head manifest", r.label(ref), oci.Descriptor{})
	}
	if err == nil {
		finish(resp)
		d := oci.Descriptor{
			MediaType: mediaType(resp),
			Digest:    oci.Digest(resp.Header.Get("Docker-Content-Digest")),
			Size:      resp.ContentLength,
		}
		whole := oci.IsManifestType(d.MediaType) && oci.ValidDigest(d.Digest) == nil && d.Size >= 0
		if whole && (!oci.IsDigest(ref) || ref == string(d.Digest)) {
			return d, nil
		}
	}
	d, _, err := r.Resolve(ctx, ref)
	return d, err
}

// manifestRequest asks for a manifest, with scope, and gives the answer if it is 200.
func (r *repo) manifestRequest(ctx context.Context, method, ref, scope string) (*http.Response, error) {
	req, err := r.request(ctx, method, r.url("/manifests/"+ref), scope)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := r.send(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		err := answered(resp)
		if e := status(err); e != nil && e.Code == "TAG_EXPIRED" {
			e.Hint = "Quay's time machine may restore it"
		}
		return nil, err
	}
	return resp, nil
}

// mediaType gives the Content-Type of resp without parameters.
func mediaType(resp *http.Response) oci.MediaType {
	mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mt
}
