package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// maxLayers bounds the layers of one image.
const maxLayers = 10_000

// An inspection is what a daemon says of an image without reading it.
type inspection struct {
	ID       oci.Digest `json:"Id"` // of the config, or where Descriptor is set of the manifest or index
	RepoTags []string
	Created  string
	Author   string
	Config   json.RawMessage

	Architecture string
	Variant      string
	OS           string `json:"Os"`
	OSVersion    string `json:"OsVersion"`
	RootFS       struct {
		Layers []oci.Digest // diffIDs
	}
	Descriptor *oci.Descriptor // what the name means in Docker's containerd store
	Manifests  []child         // of an index there; older daemons don't tell
}

// A child is an entry of an index as a daemon tells of it.
type child struct {
	Available  bool
	Kind       string // "image", "attestation"
	Descriptor oci.Descriptor
	ImageData  struct{ Platform oci.Platform }
}

// inspect asks c for the image n. The error is an [absent] if there is none.
func inspect(ctx context.Context, c *engine.Client, n name) (*inspection, error) {
	i := &inspection{}
	err := c.JSON(ctx, "/images/"+engine.EscapeRef(n.ask)+"/json", url.Values{"manifests": {"1"}}, i)
	if errors.Is(err, oci.ErrNotFound) {
		return nil, absent{n, c.String()}
	}
	if err == nil {
		err = i.check()
	}
	return i, wrap(err, "inspect", n, c, oci.Descriptor{})
}

// check holds what is relied on against its form.
func (i *inspection) check() error {
	if idRE.MatchString(string(i.ID)) {
		i.ID = "sha256:" + i.ID
	}
	if err := oci.ValidDigest(i.ID); err != nil {
		return fmt.Errorf("its Id: %w", err)
	}
	if m := i.manifest(); m.Digest != "" || i.kept() && !oci.IsIndexType(i.Descriptor.MediaType) {
		if err := oci.ValidDigest(m.Digest); err != nil {
			return fmt.Errorf("its manifest: %w", err)
		}
	}
	if len(i.RootFS.Layers) > maxLayers {
		return fmt.Errorf("%d layers: %w", len(i.RootFS.Layers), oci.ErrTooLarge)
	}
	for _, d := range i.RootFS.Layers {
		if err := oci.ValidDigest(d); err != nil {
			return fmt.Errorf("its RootFS: %w", err)
		}
	}
	return nil
}

// kept reports whether the daemon keeps the image's manifest. (Docker's older
// store makes one up when it saves an image, but keeps none.)
func (i *inspection) kept() bool { return i.Descriptor != nil }

// manifest describes the manifest that the daemon keeps of the image: of an index
// the child that is for the image's platform. Digest is "" if it isn't known.
func (i *inspection) manifest() oci.Descriptor {
	if !i.kept() {
		return oci.Descriptor{}
	}
	d := *i.Descriptor
	if oci.IsIndexType(d.MediaType) {
		d = oci.Descriptor{MediaType: oci.MediaTypeManifest}
		for _, c := range i.Manifests {
			p := c.ImageData.Platform
			if c.Kind != "image" || !c.Available || p.OS != i.OS || p.Architecture != i.Architecture || p.Variant != i.Variant {
				continue
			}
			if d.Digest != "" { // which of them?
				return oci.Descriptor{MediaType: oci.MediaTypeManifest}
			}
			d = c.Descriptor
		}
	}
	return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// save opens the image that i is of as a stream in the form of docker save: by
// its ID, so that it is that one whatever its name has become.
func (i *inspection) save(ctx context.Context, c *engine.Client) (*savedStream, error) {
	call := engine.Call{Path: "/images/" + engine.EscapeRef(string(i.ID)) + "/get"}
	if i.kept() && oci.IsIndexType(i.Descriptor.MediaType) {
		// Of an index it would save every platform that it has.
		p, err := json.Marshal(oci.Platform{OS: i.OS, Architecture: i.Architecture, Variant: i.Variant})
		if err != nil {
			return nil, err
		}
		call.Query = url.Values{"platform": {string(p)}}
	}
	resp, err := c.Do(ctx, call)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("status %d: %w", resp.StatusCode, oci.ErrInvalid), resp.Body.Close())
	}
	return &savedStream{rc: resp.Body}, nil
}
