package quay

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// A Label is one label of a manifest. A key may stand more than once.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	// Source is "manifest" for what came with the image, "api" for what was
	// set since, or "internal".
	Source string `json:"source_type"`
}

// Labels gives the labels of the manifest digest of repo ("namespace/name"), in
// no order: those of the image's config, overlaid by the manifest's
// annotations, and those set through the API. An index has none; its images
// have ([Client.Children]).
//
// [NotVisible] tells the error of a repository or manifest that isn't there or
// isn't the token's to see. A manifest is there while a live tag, or an index
// that has one, names it.
//
// Source: GET /api/v1/repository/{repository}/manifest/{digest}/labels.
func (c *Client) Labels(ctx context.Context, repo string, digest oci.Digest) ([]Label, error) {
	var v struct {
		Labels []Label `json:"labels"`
	}
	err := c.manifest(ctx, repo, digest, "/labels", &v)
	return v.Labels, oci.Wrap(err, "read labels of", c.ref(repo), oci.Descriptor{Digest: digest})
}

// Children gives the manifests that the index digest of repo names, in its
// order; an image has none. Errors are those of [Client.Labels], and
// [oci.ErrDigestMismatch] where the index isn't what its digest says.
//
// Source: GET /api/v1/repository/{repository}/manifest/{digest}.
func (c *Client) Children(ctx context.Context, repo string, digest oci.Digest) ([]oci.Descriptor, error) {
	children, err := c.children(ctx, repo, digest)
	return children, oci.Wrap(err, "read index", c.ref(repo), oci.Descriptor{Digest: digest})
}

func (c *Client) children(ctx context.Context, repo string, digest oci.Digest) ([]oci.Descriptor, error) {
	var v struct {
		IsIndex bool   `json:"is_manifest_list"`
		Data    string `json:"manifest_data"` // the manifest's bytes
	}
	if err := c.manifest(ctx, repo, digest, "", &v); err != nil || !v.IsIndex {
		return nil, err
	}
	if got := digest.Algorithm().FromString(v.Data); got != digest {
		return nil, fmt.Errorf("%w: its bytes have %s", oci.ErrDigestMismatch, got)
	}
	m, err := oci.ParseManifest("", []byte(v.Data))
	if err != nil {
		return nil, err
	}
	return m.Manifests, nil
}

// manifest reads what Quay says of a manifest into v.
func (c *Client) manifest(ctx context.Context, repo string, digest oci.Digest, suffix string, v any) error {
	if _, _, err := splitRepository(repo); err != nil {
		return err
	}
	if err := oci.ValidDigest(digest); err != nil {
		return err
	}
	r := request{path: apiPath("repository", repo, "manifest", string(digest)) + suffix}
	a, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return a.decode(r, v)
}
