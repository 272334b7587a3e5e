package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

func (a *app) infoCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "info SOURCE",
		Short: "Show manifest and config of images; no layer is downloaded",
		Long: `Info shows what the images of SOURCE say of themselves. Of an index it lists the
platforms and shows the image for linux/amd64, or for --platform.

-O json prints an object, and an array where SOURCE may stand for many images.`,
		Example: `  quaymaster info registry://quay.io/kolla/nova-api:latest
  quaymaster info 'quay://kolla/*:2025.1-debian' -O json`,
		Args: args("SOURCE"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error { return a.info(ctx, args[0]) }),
	}
}

func (a *app) info(ctx context.Context, uri string) error {
	s, err := a.open(ctx, uri, "")
	if err != nil {
		return err
	}
	defer s.close()
	all := []pipeline.Info{} // an empty listing is an empty array
	jsonl := json.NewEncoder(a.out)
	jsonl.SetEscapeHTML(false)
	opt := bulk.Options{Images: a.work.images, Platforms: s.platforms, Warn: a.warnf}
	if s.images.Bulk() {
		progress := a.newProgress("", "images", true)
		defer progress.close()
		opt.Events = progress.event
	}
	shown := 0
	var ended, told error // what ended the listing; what was told of images
	for info, err := range bulk.Inspect(ctx, s.images, opt) {
		switch {
		case err == nil:
		case s.images.Bulk() && ofImage(info, err):
			fmt.Fprintf(a.talk, "Failed: %s\n", message(err))
			told = errors.Join(told, err)
			continue
		default:
			ended = err
			continue
		}
		switch a.work.output {
		case "json":
			all = append(all, info)
		case "jsonl":
			err = jsonl.Encode(info)
		default:
			if shown > 0 {
				fmt.Fprint(a.out, "\n---\n\n")
			}
			err = a.infoText(info)
		}
		if err != nil {
			return err
		}
		shown++
	}
	if shown == 0 && ended == nil && told == nil {
		a.noneFound(s)
	}
	a.tellListing(s)
	if a.work.output == "json" {
		switch {
		case s.images.Bulk() && (ended == nil || shown > 0):
			err = a.printJSON(all)
		case len(all) == 1:
			err = a.printJSON(all[0])
		}
	}
	switch {
	case err != nil:
		return err
	case ended != nil:
		return hinted(ended)
	case told != nil:
		a.tellHints(told)
		return errReported
	}
	return nil
}

// ofImage reports whether err, which came with info, is about one image rather
// than the listing.
func ofImage(info pipeline.Info, err error) bool {
	e, ok := errors.AsType[*oci.Error](err)
	return info.Image != "" || ok && e.Op == "open source"
}
