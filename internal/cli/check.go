package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/oci"
)

func (a *app) checkCmd() *cobra.Command {
	var fast bool
	cmd := &cobra.Command{
		Use:   "check SOURCE",
		Short: "Say whether images are valid, bit for bit",
		Long: `Check holds the images of SOURCE against the image specification and against
themselves: manifests, indexes, configs, and every layer down to the entries of its
tar. All platforms of an index are checked, or those of --platform. Each layer is
read once however many images share it.

-O json prints an object, and an array where SOURCE may stand for many images. The
exit status is 1 if an image has an error or can't be read; docs/check.md lists what
is looked for.`,
		Example: `  quaymaster check registry://quay.io/kolla/nova-api:latest
  quaymaster check ocidir://kolla
  quaymaster check 'quay://kolla/*:2025.1-debian' --fast -O json`,
		Args: args("SOURCE"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.checkImages(ctx, args[0], fast)
		}),
	}
	cmd.Flags().BoolVar(&fast, "fast", false, "read manifests and configs only, no layer")
	return cmd
}

func (a *app) checkImages(ctx context.Context, uri string, fast bool) error {
	s, err := a.open(ctx, uri, "")
	if err != nil {
		return err
	}
	defer s.close()
	many := s.images.Bulk()
	opt := bulk.Options{Images: a.work.images}
	if many {
		progress := a.newProgress("", "images", true)
		defer progress.close()
		opt.Events = progress.event
	}
	checker := check.New(check.Options{Fast: fast, Platforms: s.platforms, Blobs: a.work.blobs})
	out := checkOutput{app: a, many: many, all: []check.Report{}} // an empty listing is an empty array
	var ended, told error                                         // what ended the listing; what was told of images
	for r, err := range bulk.Check(ctx, s.images, checker, opt) {
		if err == nil {
			err = out.add(r)
			if err != nil {
				return err
			}
			continue
		}
		e, ok := errors.AsType[*oci.Error](err)
		if many && (r.Mode != "" || ok && e.Op == "open source") {
			fmt.Fprintf(a.talk, "Failed: %s\n", message(err))
			told = errors.Join(told, err)
			continue
		}
		ended = err
	}
	if out.shown == 0 && ended == nil && told == nil {
		a.noneFound(s)
	}
	a.tellListing(s)
	if err := out.end(ended == nil); err != nil {
		return err
	}
	if many && out.shown > 0 {
		a.sayf("%s checked, %d with errors", count(out.shown, "image"), out.bad)
	}
	switch {
	case ended != nil:
		return hinted(ended)
	case told != nil:
		a.tellHints(told)
		return errReported
	case out.bad > 0:
		return errReported
	}
	return nil
}

// A checkOutput prints reports as they come; JSON waits for the last.
type checkOutput struct {
	app   *app
	many  bool
	all   []check.Report
	shown int
	bad   int // with errors
}

func (o *checkOutput) add(r check.Report) error {
	o.shown++
	if r.Errors > 0 {
		o.bad++
	}
	switch o.app.work.output {
	case "json":
		o.all = append(o.all, r)
		return nil
	case "jsonl":
		e := json.NewEncoder(o.app.out)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	text := checkText(r)
	if o.many {
		text = "Image: " + oneLine(r.Ref.Tagged()) + "\n\n" + text
	}
	if o.shown > 1 {
		text = "\n---\n\n" + text
	}
	_, err := fmt.Fprint(o.app.out, text)
	return err
}

// end prints what was kept. whole says that the listing ended well.
func (o *checkOutput) end(whole bool) error {
	switch {
	case o.app.work.output != "json":
	case o.many && (whole || o.shown > 0):
		return o.app.printJSON(o.all)
	case len(o.all) == 1:
		return o.app.printJSON(o.all[0])
	}
	return nil
}

// checkText gives r as occystrap prints it.
func checkText(r check.Report) string {
	var b strings.Builder
	for _, g := range []struct {
		title    string
		severity check.Severity
	}{{"Errors", check.Error}, {"Warnings", check.Warning}, {"Info", check.Info}} {
		title := g.title + ":\n"
		for _, f := range r.Results {
			if f.Severity == g.severity {
				fmt.Fprintf(&b, "%s  [%s] %s\n", title, f.Check, oneLine(f.Message))
				title = ""
			}
		}
		if title == "" {
			b.WriteString("\n")
		}
	}
	mode := r.Mode
	if mode == check.ModeFast {
		mode = "fast (metadata only)"
	}
	fmt.Fprintf(&b, "Check complete (%s): %d error(s), %d warning(s)\n", mode, r.Errors, r.Warnings)
	return b.String()
}
