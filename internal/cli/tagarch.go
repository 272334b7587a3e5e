package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// archFlags choose platforms of the tags of one repository.
type archFlags struct {
	releaseFlags
	lists  listFlags
	archs  []string
	except []string
	source string
}

func (a *app) archCmd(use, short, long, example string, f *archFlags, do func(ctx context.Context, args []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: cobra.ArbitraryArgs,
		RunE: run(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if len(args) == 0 || f.source == "" && strings.Contains(use, "SOURCE") && len(args) < 2 {
				return oci.Usage("write quaymaster tag " + use + "; see " + cmd.CommandPath() + " --help")
			}
			return do(ctx, args)
		}),
	}
	p := cmd.Flags()
	f.addInside(p)
	f.lists.addMaking(p)
	p.StringSliceVar(&f.archs, "arch", nil, "platforms of these `ARCH`itectures, OS/ARCH or OS/ARCH/VARIANT; repeatable, or with commas")
	p.StringSliceVar(&f.except, "exclude-arch", nil, "all platforms but those of these `ARCH`itectures")
	return cmd
}

// options gives the flags as the library takes them.
func (f *archFlags) options(a *app) (publish.ArchOptions, error) {
	opt := publish.ArchOptions{StrictOSVersion: f.lists.strict, Type: f.lists.indexType, Style: f.lists.indexStyle()}
	words := append(append([]string{}, f.archs...), a.plat.platforms...)
	if len(f.except) > 0 {
		if len(words) > 0 {
			return opt, oci.Usage("--exclude-arch excludes --arch and --platform")
		}
		words, opt.Except = f.except, true
	}
	if len(words) == 0 {
		return opt, oci.Usage("say which platforms: --arch, --exclude-arch or --platform")
	}
	var err error
	if opt.Platforms, err = platformsOf("--arch", words); err != nil {
		return opt, err
	}
	if opt.Guard, opt.Hooks, err = f.settings(); err != nil {
		return opt, err
	}
	return opt, f.lists.check()
}

func (a *app) tagAddCmd() *cobra.Command {
	var f archFlags
	return a.archCmd("add SOURCE TAG...", "Give tags single platforms of another tag of their repository",
		`Add takes the chosen platforms of SOURCE, HOST/REPOSITORY:TAG, into each TAG of the same
repository. What else a TAG has stays. No layer moves.`,
		`  quaymaster tag add quay.io/org/app:build-7 v1 latest --arch arm64,s390x`, &f,
		func(ctx context.Context, args []string) error {
			refs, err := inRepository(args)
			if err != nil {
				return err
			}
			opt, err := f.options(a)
			if err != nil {
				return err
			}
			return a.publish(ctx, deed{
				command: "tag-add", sources: refs[:1], dests: refs[1:], flags: &f.publishFlags,
				do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
					return p.AddPlatforms(ctx, refs[0], refs[1:], opt)
				},
			})
		})
}

func (a *app) tagRemoveCmd() *cobra.Command {
	var f archFlags
	cmd := a.archCmd("remove REFERENCE...", "Take single platforms out of tags",
		`Remove takes the chosen platforms out of each REFERENCE, HOST/REPOSITORY:TAG; those after the
first may be tags of its repository. A tag that nothing is left of is deleted.
With --source only what that tag has with the same digest is taken out.`,
		`  quaymaster tag remove quay.io/org/app:v1 latest --arch s390x`, &f,
		func(ctx context.Context, args []string) error {
			if f.source != "" {
				args = append(append([]string{}, args...), f.source)
			}
			refs, err := inRepository(args)
			if err != nil {
				return err
			}
			opt, err := f.options(a)
			if err != nil {
				return err
			}
			if f.source != "" {
				opt.Source, refs = refs[len(refs)-1], refs[:len(refs)-1]
			}
			return a.publish(ctx, deed{
				command: "tag-remove", dests: refs, flags: &f.publishFlags,
				do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
					return p.RemovePlatforms(ctx, refs, opt)
				},
			})
		})
	cmd.Flags().StringVar(&f.source, "source", "", "take out only what this `TAG` has with the same digest")
	return cmd
}

// inRepository reads a reference and what follows it: references, or tags of the
// first one's repository.
func inRepository(args []string) ([]oci.Ref, error) {
	first, err := tagged(args[:1])
	if err != nil {
		return nil, err
	}
	for _, arg := range args[1:] {
		if oci.ValidTag(arg) {
			first = append(first, oci.Ref{Registry: first[0].Registry, Repository: first[0].Repository, Tag: arg})
			continue
		}
		ref, err := tagged([]string{arg})
		if err != nil {
			return nil, err
		}
		if ref[0].Name() != first[0].Name() {
			return nil, oci.Usage(fmt.Sprintf("%s is not in %s; this works inside one repository", ref[0], first[0].Name()))
		}
		first = append(first, ref...)
	}
	return first, nil
}
