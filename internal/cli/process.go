package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// processFlags are those of process alone.
type processFlags struct {
	dryRun, failFast, followMoved bool
	companions                    bool
	layerCache, blobCache         string
	filters                       []string
}

func (a *app) processCmd() *cobra.Command {
	var f processFlags
	cmd := &cobra.Command{
		Use:   "process SOURCE DESTINATION",
		Short: "Copy one image, or all that a source stands for",
		Long: `Process copies the images of SOURCE to DESTINATION byte for byte: manifests,
configs and layers keep their digests. What is there already isn't copied again,
a layer that images share moves once, and what was written is verified. An image
that fails doesn't stop the others. Run it again to do what is missing.

With -f, filters change images on their way, in the order given; each layer goes
through all of them in one pass, and one that they leave as it was keeps its blob.

What SOURCE and DESTINATION can be: quaymaster help places. A path may have
{registry} {namespace} {repo} {name} {tag} {digest} {arch}: a place for each image.`,
		Example: `  quaymaster process 'quay://kolla/*:2025.1-debian' ocidir://kolla
  quaymaster process 'quay://kolla/*:latest' registry://mirror.example.com/upstream
  quaymaster process 'quay://kolla/*:latest' 'tar://out/{repo}-{tag}.tar'
  quaymaster process ocidir://kolla registry://inside.example.com
  quaymaster process ocidir://kolla registry://inside.example.com -f normalize-timestamps -f 'exclude:pattern=**/*.pyc'`,
		Args: args("SOURCE", "DESTINATION"),
		RunE: run(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			a.names.said = cmd.Flags().Changed
			return a.process(ctx, args[0], args[1], f)
		}),
	}
	p := cmd.Flags()
	p.BoolVar(&f.dryRun, "dry-run", false, "print what would be done and how many bytes that is; write nothing")
	p.BoolVar(&f.failFast, "fail-fast", false, "stop at the first image that fails")
	p.BoolVar(&f.followMoved, "follow-moved", false, "take what a tag means now if it moved since it was listed")
	p.BoolVar(&f.companions, "companions", false, "copy cosign's signatures, attestations and SBOMs, and referrers, along with their images")
	a.names.add(p)
	p.StringArrayVarP(&f.filters, "filter", "f", nil, "put images through `NAME[:k=v,…]`; repeatable, in order (docs/cli.md)")
	p.StringVar(&f.layerCache, "layer-cache", "", "keep in `FILE` what filters made of layers, so that the next run needn't do it again")
	p.StringVar(&f.blobCache, "blob-cache", "", "keep in `FILE` where blobs are at the registry, so that the next run mounts them into other repositories")
	return cmd
}

func (a *app) process(ctx context.Context, sourceURI, destURI string, f processFlags) error {
	if err := a.names.check(); err != nil {
		return err
	}
	chain, err := a.filters(f.filters)
	if err != nil {
		return err
	}
	s, err := a.open(ctx, sourceURI, destURI)
	if err != nil {
		return err
	}
	defer s.close()
	name, err := s.naming()
	if err != nil {
		return err
	}
	images, opt := s.images, bulk.Options{
		Images: a.work.images, Blobs: a.work.blobs,
		Platforms: s.platforms, Verify: a.verify(),
		Filters: chain, FilterSpecs: f.filters, LayerCache: f.layerCache, BlobCache: f.blobCache,
		DryRun: f.dryRun, FailFast: f.failFast, FollowMoved: f.followMoved,
		Name: name, Ahead: s.mayCollide(), Warn: a.warnf,
	}
	if f.companions {
		if images, opt, err = bulk.WithCompanions(images, s.target, opt); err != nil {
			return fmt.Errorf("--companions: %w", err)
		}
	}
	progress := a.newProgress("Processing", "images", images.Bulk())
	opt.Events = progress.event
	started := time.Now()
	report, err := bulk.Copy(ctx, images, s.target, opt)
	progress.close()
	if report == nil {
		return err
	}
	report.Tool, report.Command = "quaymaster "+version(), "process"
	report.Source, report.Destination = s.source.uri.String(), s.dest.uri.String()
	report.Started = started.UTC()
	s.cost(report)
	if report.Totals.Images == 0 && err == nil {
		a.noneFound(s)
	}
	if e := a.writeReport(report); e != nil {
		err = errors.Join(err, e)
	}
	switch {
	case !s.images.Bulk() && report.Totals.Failed > 0: // one image, one line
		return hinted(err)
	case f.dryRun:
		if e := a.plan(report); e != nil {
			return e
		}
	default:
		a.summary(report, s.retries())
	}
	return a.verdict(report, err)
}

// verdict leaves of err what the summary didn't tell.
func (a *app) verdict(r *oci.Report, err error) error {
	c, collide := errors.AsType[*bulk.CollisionError](err)
	switch {
	case collide:
		for line := range strings.SplitSeq(c.Error(), "\n") {
			fmt.Fprintf(a.talk, "Refused: %s\n", oneLine(line))
		}
		return oci.Usage("images would get one name; nothing was begun")
	case err == nil || r.Totals.Failed == 0:
		return hinted(err)
	case errors.Is(err, oci.ErrUsage):
		return oci.Usage("images were refused")
	}
	a.tellHints(err)
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return errReported
}

func (a *app) verify() pipeline.Verify {
	switch {
	case a.work.noVerify:
		return pipeline.VerifyNone
	case a.work.verifyFull:
		return pipeline.VerifyFull
	}
	return pipeline.VerifyDefault
}
