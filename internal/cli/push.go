package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// pushFlags are those of push alone.
type pushFlags struct {
	releaseFlags
	lists    listFlags
	plan     publish.PlanOptions
	merge    string
	single   bool
	failFast bool
	existsIn string
	deny     []string
}

func (f *pushFlags) add(p *pflag.FlagSet) {
	f.releaseFlags.add(p)
	f.lists.addMaking(p)
	p.BoolVar(&f.lists.promote, "promote-single", false, "take a single image for a list of one platform, where it is merged")
	p.StringVar(&f.plan.Registry, "registry", "", "`HOST` of the destinations (default: the plan's)")
	p.StringVar(&f.plan.Namespace, "namespace", "", "`PATH` in front of the destinations' repositories (default: the plan's)")
	p.StringVar(&f.plan.SourceRegistry, "source-registry", "", "`HOST` of sources that name none (default: the plan's)")
	p.StringVar(&f.plan.Names, "repo-names", "", "nested keeps repository names, flatten writes namespace----repo, or a template of {namespace}, {repo} and {name} (default nested)")
	p.StringVar(&f.merge, "merge", "auto", "auto keeps platforms that a destination's list has and the source lacks; never overwrites it")
	p.BoolVar(&f.single, "allow-single", true, "push images of a single platform too")
	p.BoolVar(&f.failFast, "fail-fast", false, "stop at the first item that fails")
	p.StringVar(&f.existsIn, "require-exists-in", "", "refuse tags that aren't under `HOST/PATH` too, a stage for example")
	p.StringArrayVar(&f.deny, "deny", nil, "refuse repositories that `GLOB` matches; repeatable")
}

func (a *app) pushCmd() *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push PLAN",
		Short: "Push what a plan names: many images to many tags, all or nothing",
		Long: `Push reads PLAN, YAML or JSON, - for stdin: images and the tags that each is to get. It
looks at all of them and at all destinations first, copies what is missing, and
moves tags last. Where a destination's list has platforms that the source lacks,
they stay (--merge=never overwrites them). If anything fails, or the run is
interrupted, all tags get back what they had, byte for byte, and new ones are
deleted (--rollback=never leaves them).`,
		Example: `  quaymaster push plan.yaml --dry-run
  quaymaster push plan.yaml --registry quay.io --namespace my-org --report report.json`,
		Args: args("PLAN"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error { return a.push(ctx, args[0], &f) }),
	}
	f.add(cmd.Flags())
	return cmd
}

func (a *app) push(ctx context.Context, file string, f *pushFlags) error {
	raw, err := a.readPlan(file)
	if err != nil {
		return err
	}
	plan, err := publish.ParsePlan(file, raw, f.plan)
	if err != nil {
		return err
	}
	opt := publish.PushOptions{Merge: f.merge, DisallowSingle: !f.single, FailFast: f.failFast, RequireExistsIn: f.existsIn, Deny: f.deny}
	if opt.MergeOptions, err = f.lists.options(); err != nil {
		return err
	}
	if opt.Guard, opt.Hooks, err = f.settings(); err != nil {
		return err
	}
	var sources, dests []oci.Ref
	for _, i := range plan.Items {
		sources = append(sources, i.Source)
		for _, d := range i.Dests {
			dests = append(dests, d.Ref)
		}
	}
	facts := map[string]any{"dest_refs": sortedRefs(dests)}
	return a.publish(ctx, deed{
		command: "push", step: "push-images-to-quay", facts: facts,
		sources: sources, dests: dests, flags: &f.publishFlags,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			return p.Push(ctx, plan, opt)
		},
		event: func(*publish.Report) (string, map[string]any) {
			return "push-images-to-quay-end", facts
		},
	})
}

// maxPlan is the most bytes of a plan that are read; the library has a limit below.
const maxPlan = 16 << 20

// readPlan reads the file, or stdin where it is called -.
func (a *app) readPlan(file string) ([]byte, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, oci.Usage(fmt.Sprintf("the plan can't be read: %v", err))
		}
		defer f.Close()
		in = f
	} else if a.creds.passwordStdin {
		return nil, oci.Usage("the plan and --password-stdin can't both be on stdin")
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxPlan))
	return raw, oci.Wrap(err, "read plan", file, oci.Descriptor{})
}
