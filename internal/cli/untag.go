package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func (a *app) untagCmd() *cobra.Command {
	var f publishFlags
	var opt publish.UntagOptions
	var old oldPublish
	cmd := &cobra.Command{
		Use:   "untag REFERENCE...",
		Short: "Take tags away, and nothing that another tag still means",
		Long: `Untag deletes tags. Before it deletes the first it looks at every tag of the
repository: where an image would be lost, because no other tag means it, it
refuses (exit 3) and names what would be lost; --remove-last agrees to that, and
takes the signatures and attestations of lost images along. A listing that is not
complete deletes nothing.

Manifests are not deleted, only tags. What was deleted can be put back, as long
as the registry keeps it: quaymaster rollback --journal FILE.`,
		Example: `  quaymaster untag quay.io/org/app:v1 --dry-run
  quaymaster untag quay.io/org/app:v1 quay.io/org/app:v1.0 --remove-last`,
		Args: cobra.ArbitraryArgs,
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			args, err := old.untag(a, args)
			if err != nil {
				return err
			}
			return a.untag(ctx, args, &f, opt)
		}),
	}
	p := cmd.Flags()
	p.BoolVar(&opt.RemoveLast, "remove-last", false, "also take the last tag of an image, which then has none")
	p.BoolVar(&opt.IgnoreMissing, "ignore-missing", false, "a tag that isn't there is no error")
	f.add(p)
	old.addUntag(p)
	return cmd
}

func (a *app) untag(ctx context.Context, args []string, f *publishFlags, opt publish.UntagOptions) error {
	if len(args) == 0 {
		return oci.Usage("write quaymaster untag REFERENCE...; see quaymaster untag --help")
	}
	refs, err := references(args)
	if err != nil {
		return err
	}
	return a.publish(ctx, deed{
		command: "untag", dests: refs, flags: f,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			return p.Untag(ctx, refs, opt)
		},
		event: func(r *publish.Report) (string, map[string]any) {
			return "quay_images_untagged", map[string]any{"untag_refs": sortedRefs(refs), "lost_refs": lostRefs(r)}
		},
	})
}

// lostRefs gives what no tag means any more, as host/repository@digest, and the
// companions that went along, sorted.
func lostRefs(r *publish.Report) []string {
	lost := []string{}
	for _, i := range r.Items {
		for _, d := range i.LostDigests {
			lost = append(lost, i.Source+"@"+string(d))
		}
		for _, c := range i.Changes {
			if c.Companion != "" && c.Status == publish.Deleted {
				lost = append(lost, c.Reference)
			}
		}
	}
	slices.Sort(lost)
	return slices.Compact(lost)
}

func sortedRefs(refs []oci.Ref) []string {
	text := []string{}
	for _, r := range refs {
		text = append(text, r.String())
	}
	slices.Sort(text)
	return text
}
