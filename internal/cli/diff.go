package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/diff"
	"github.com/quaymaster/quaymaster/oci"
)

func (a *app) diffCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Show how two images, or two sets of images, differ",
		Long: `Diff compares A with B: two images, or two sources of many, whose images are paired
by repository path and tag, without host. It shows images that only one side has,
and of those whose digest differs, per platform: layers, files of the final file
system, config and labels. Images of one digest are equal; no layer is read.

Credentials and connection of A are those of the --src-… flags, of B those of the
--dest-… flags. Exit status: 0 nothing differs, 1 something does, 2 trouble.`,
		Example: `  quaymaster diff registry://quay.io/kolla/nova-api:2025.1 registry://quay.io/kolla/nova-api:2025.2
  quaymaster diff 'quay://kolla/*:2025.1-debian' ocidir://kolla -O json`,
		Args: args("A", "B"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return trouble(a.diff(ctx, args[0], args[1]))
		}),
	}
}

// errDifferent ends a diff that found a difference; nothing more is to be said.
var errDifferent = fmt.Errorf("different: %w", errReported)

// A troubleError is an error of a command whose status 1 means something else.
type troubleError struct{ error }

func (e *troubleError) Unwrap() error { return e.error }

// trouble marks err, unless it is no trouble.
func trouble(err error) error {
	if err == nil || errors.Is(err, errDifferent) {
		return err
	}
	return &troubleError{err}
}

// diffDocument is what -O json prints.
type diffDocument struct {
	A       string       `json:"a"`
	B       string       `json:"b"`
	Equal   bool         `json:"equal"`
	Summary diff.Summary `json:"summary"`
	Images  []diff.Image `json:"images"` // that differ
}

func (a *app) diff(ctx context.Context, uriA, uriB string) error {
	s, err := a.openTwo(ctx, uriA, uriB)
	if err != nil {
		return err
	}
	defer s.close()
	all := []diff.Image{}
	var sum diff.Summary
	jsonl := json.NewEncoder(a.out)
	jsonl.SetEscapeHTML(false)
	one, other := diff.Place{Images: s.images, Platforms: s.platforms}, diff.Place{Images: s.second.images, Platforms: s.second.platforms}
	failed := false
	for img, err := range diff.Images(ctx, one, other, diff.Options{Images: a.work.images, Layers: a.work.blobs}, &sum) {
		if err != nil {
			return hinted(err)
		}
		if img.Status == diff.Failed {
			failed = true
			a.tellDiffFailed(img)
		}
		switch a.work.output {
		case "json":
			all = append(all, img)
		case "jsonl":
			err = jsonl.Encode(img)
		default:
			err = a.diffText(img)
		}
		if err != nil {
			return err
		}
	}
	if a.work.output == "json" {
		doc := diffDocument{A: s.source.uri.String(), B: s.dest.uri.String(), Equal: !failed && !sum.Different(), Summary: sum, Images: all}
		if err := a.printJSON(doc); err != nil {
			return err
		}
	}
	if s.images.Bulk() {
		a.sayf("Compared %s with %s: %d equal, %d added, %d removed, %d changed, %d failed; read %s",
			count(sum.A, "image"), count(sum.B, "image"), sum.Equal, sum.Added, sum.Removed, sum.Changed, sum.Failed, count(sum.Layers, "distinct layer"))
	}
	switch {
	case failed:
		return errReported
	case sum.Different():
		return errDifferent
	}
	return nil
}

// tellDiffFailed says what couldn't be compared of img.
func (a *app) tellDiffFailed(img diff.Image) {
	if img.Error != "" {
		a.tellFailed(&oci.Error{Op: "compare", Ref: img.Image, Err: fmt.Errorf("%s", img.Error)})
	}
	for _, p := range img.Platforms {
		if p.Error != "" {
			a.tellFailed(&oci.Error{Op: "compare", Ref: img.Image + " (" + p.Platform + ")", Err: fmt.Errorf("%s", p.Error)})
		}
	}
}
