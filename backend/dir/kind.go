package dir

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Kind is dir://PATH[:REF][?unique_names=true][&expand=true].
var Kind = backend.Kind{
	Scheme:  "dir",
	Aliases: []string{"directory"},
	Help:    "folder of plain layers, one for many images: dir://PATH[:REF][?unique_names=true][&expand=true]",
	Options: map[string]string{
		"unique_names": "true: a manifest file for each image; false (default): manifest.json, for one image",
		"expand":       "true: each image's root file system too, beside its manifest file, in a folder with the name of that; false (default): layers only",
	},
	Path:   true,
	Source: source,
	Target: target,
}

func target(_ context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	unique, err := u.OptionBool("unique_names", false)
	if err != nil {
		return nil, err
	}
	expand, err := u.OptionBool("expand", false)
	if err != nil {
		return nil, err
	}
	var name *oci.Ref
	if ref != "" {
		r, ok := layout.ParseName(ref)
		if !ok || r.Repository == "" {
			return nil, oci.Usage(fmt.Sprintf("%s: %q is no image name for a folder: write PATH:[host/]repository:tag", u, ref))
		}
		name = &r
	}
	st, err := stage.Open(path, nil)
	if err != nil {
		return nil, oci.Wrap(err, "open folder", path, oci.Descriptor{})
	}
	p := newPlace(st, name, unique, env)
	p.expand = expand
	return p, nil
}
