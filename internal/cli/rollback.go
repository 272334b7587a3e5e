package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func (a *app) rollbackCmd() *cobra.Command {
	var f publishFlags
	var opt publish.UndoOptions
	cmd := &cobra.Command{
		Use:   "rollback --journal FILE",
		Short: "Undo what a push, merge, tag, untag, clear or restore did",
		Long: `Rollback reads the journal of a run, also of one that was killed, and puts the tags
back that it changed, in reverse order: those that were there get their digest
again, byte for byte, new ones are deleted. A tag that somebody else has moved
since is left alone and reported, exit 4; --force puts it back all the same.
Done twice it changes nothing.`,
		Example: `  quaymaster rollback --journal push.jsonl --dry-run
  quaymaster rollback --journal push.jsonl`,
		Args: args(),
		RunE: run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			if f.journal == "" {
				return oci.Usage("write quaymaster rollback --journal FILE; see quaymaster rollback --help")
			}
			return a.rollback(ctx, f, opt)
		}),
	}
	p := cmd.Flags()
	f.add(p)
	p.Lookup("journal").Usage = "undo the run that wrote `FILE`"
	p.BoolVar(&opt.Force, "force", false, "also put back tags that somebody else has moved since")
	return cmd
}

func (a *app) rollback(ctx context.Context, f publishFlags, opt publish.UndoOptions) error {
	path := f.journal
	refs, err := publish.Journaled(path)
	if err != nil {
		return err
	}
	f.journal = "" // the one that is read is the one that is written to
	return a.publish(ctx, deed{
		command: "rollback", dests: refs, flags: &f, undoes: true,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			return p.Undo(ctx, path, opt)
		},
	})
}
