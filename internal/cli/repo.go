package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// repoFlags are those of the verbs that empty and remove repositories.
type repoFlags struct {
	publishFlags
	keep []string
	yes  bool
}

func (a *app) repoCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo clear|remove REPOSITORY...",
		Short: "Empty or remove whole repositories",
		Args:  cobra.ArbitraryArgs,
		RunE: run(func(_ context.Context, cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return oci.Usage("write quaymaster repo clear or quaymaster repo remove; see quaymaster repo --help")
		}),
	}
	cmd.AddCommand(a.repoClearCmd(), a.repoRemoveCmd())
	return cmd
}

func (f *repoFlags) addYes(p *pflag.FlagSet) {
	f.add(p)
	p.BoolVar(&f.yes, "yes", false, "don't ask")
}

func (a *app) repoClearCmd() *cobra.Command {
	var f repoFlags
	cmd := &cobra.Command{
		Use:   "clear REPOSITORY...",
		Short: "Take away all tags of repositories",
		Long: `Clear deletes all tags of each HOST/REPOSITORY but those that a --keep-tags glob
matches, and the signatures and attestations of what is lost. It shows what it
would delete and asks; --yes doesn't ask. Where a listing is not complete nothing
is deleted anywhere.`,
		Example: `  quaymaster repo clear quay.io/org/app --keep-tags 'v*' --dry-run
  quaymaster repo clear quay.io/org/app quay.io/org/team/svc --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.repositories(ctx, "clear", args, &f)
		}),
	}
	f.addYes(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.keep, "keep-tags", nil, "keep tags that `GLOB` matches; repeatable")
	return cmd
}

func (a *app) repoRemoveCmd() *cobra.Command {
	var f repoFlags
	cmd := &cobra.Command{
		Use:   "remove REPOSITORY...",
		Short: "Remove repositories of a Quay, with all that is in them",
		Long: `Remove deletes each HOST/REPOSITORY of a Quay, which needs an API token. It shows
what would be lost and asks; --yes doesn't ask. A removed repository can't be
put back. Other registries have no such call: repo clear empties them.`,
		Example: `  quaymaster repo remove quay.io/org/app --dry-run`,
		Args:    cobra.ArbitraryArgs,
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.repositories(ctx, "remove", args, &f)
		}),
	}
	f.addYes(cmd.Flags())
	return cmd
}

// repositories clears or removes the repositories args, once the user agreed.
func (a *app) repositories(ctx context.Context, verb string, args []string, f *repoFlags) error {
	if len(args) == 0 {
		return oci.Usage("write quaymaster repo " + verb + " HOST/REPOSITORY...; see quaymaster repo " + verb + " --help")
	}
	repos, err := references(args)
	if err != nil {
		return err
	}
	do := func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
		if verb == "remove" {
			return p.Remove(ctx, repos)
		}
		return p.Clear(ctx, repos, publish.ClearOptions{KeepTags: f.keep})
	}
	if !f.dryRun && !f.yes {
		if err := a.agree(ctx, verb, repos, f, do); err != nil {
			return err
		}
	}
	return a.publish(ctx, deed{
		command: "repo-" + verb, dests: repos, flags: &f.publishFlags,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			p.Yes = true
			return do(ctx, p)
		},
		event: func(*publish.Report) (string, map[string]any) {
			names := []string{}
			for _, r := range repos {
				names = append(names, r.Repository)
			}
			slices.Sort(names)
			return "quay_repositories_" + map[string]string{"clear": "cleared", "remove": "removed"}[verb], map[string]any{"repository_ids": names}
		},
	})
}
