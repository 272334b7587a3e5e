package daemon

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// Describe gives the config as far as the daemon tells it: everything that an
// image config has by the specification, but not its bytes. Nothing of the image
// itself is read. History is left out where it doesn't tell which of its entries
// made a layer.
func (i *image) Describe(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	if err := i.own(ref); err != nil {
		return oci.Descriptor{}, nil, err
	}
	is, err := inspect(ctx, i.client, i.name)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	var past []past
	if err := i.client.JSON(ctx, "/images/"+engine.EscapeRef(string(is.ID))+"/history", nil, &past); err != nil {
		return oci.Descriptor{}, nil, i.wrap(err, "read history", oci.Descriptor{})
	}
	raw, err := json.Marshal(is.config(history(past, len(is.RootFS.Layers))))
	if err != nil {
		return oci.Descriptor{}, nil, i.wrap(err, "describe", oci.Descriptor{})
	}
	return is.describe(), raw, nil
}

// describe gives the descriptor that Resolve gives, as far as it is known.
func (i *inspection) describe() oci.Descriptor {
	if i.kept() {
		return i.manifest()
	}
	return oci.Descriptor{MediaType: oci.MediaTypeManifest, Annotations: map[string]string{
		oci.AnnotationSynthetic: "true", oci.AnnotationConfig: string(i.ID),
	}}
}

// A configJSON is an image's config.
type configJSON struct {
	Architecture string          `json:"architecture"`
	Author       string          `json:"author,omitempty"`
	Config       json.RawMessage `json:"config,omitempty"`
	Created      string          `json:"created,omitempty"`
	History      []change        `json:"history,omitempty"`
	OS           string          `json:"os"`
	OSVersion    string          `json:"os.version,omitempty"`
	RootFS       rootFS          `json:"rootfs"`
	Variant      string          `json:"variant,omitempty"`
}

type rootFS struct {
	Type    string       `json:"type"`
	DiffIDs []oci.Digest `json:"diff_ids"`
}

type change struct {
	Created    string `json:"created,omitempty"`
	CreatedBy  string `json:"created_by,omitempty"`
	Comment    string `json:"comment,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

func (i *inspection) config(history []change) configJSON {
	return configJSON{
		Architecture: i.Architecture, Author: i.Author, Config: i.Config, Created: i.Created, History: history,
		OS: i.OS, OSVersion: i.OSVersion, RootFS: rootFS{"layers", append([]oci.Digest{}, i.RootFS.Layers...)}, Variant: i.Variant,
	}
}

// past is an entry of what a daemon tells of an image's history, newest first.
type past struct {
	Created   int64 // seconds since 1970
	CreatedBy string
	Comment   string
	Size      int64 // bytes; 0 too of a layer without content
}

// history gives a config's, oldest first, of an image with n layers; nil where
// it can't be told which entries made them.
func history(list []past, n int) []change {
	for _, madeNothing := range []func(past) bool{
		func(p past) bool { return p.Size == 0 },
		func(p past) bool { return p.Size == 0 && isSetting(p.CreatedBy) },
		func(past) bool { return false },
	} {
		var changes []change
		layers := 0
		for _, p := range slices.Backward(list) {
			c := change{CreatedBy: p.CreatedBy, Comment: p.Comment, EmptyLayer: madeNothing(p)}
			if p.Created != 0 {
				c.Created = time.Unix(p.Created, 0).UTC().Format(time.RFC3339)
			}
			if !c.EmptyLayer {
				layers++
			}
			changes = append(changes, c)
		}
		if layers == n {
			return changes
		}
	}
	return nil
}

// isSetting reports whether a Dockerfile's instruction, as old and new builders
// write it down, only sets something in the config.
func isSetting(createdBy string) bool {
	if _, after, ok := strings.Cut(createdBy, "#(nop)"); ok {
		createdBy = after
	}
	word, _, _ := strings.Cut(strings.TrimSpace(createdBy), " ")
	switch word {
	case "ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME":
		return true
	}
	return false
}
