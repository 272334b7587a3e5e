package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// listFlags say how lists of platforms are made.
type listFlags struct {
	only, exclude []string
	strict        bool
	indexType     string
	style         string
	promote       bool
}

func (f *listFlags) add(p *pflag.FlagSet) {
	p.StringSliceVar(&f.only, "only", nil, "of the source take only the `PLATFORM`s, OS/ARCH[/VARIANT] or an architecture; repeatable, or with commas")
	p.StringSliceVar(&f.exclude, "exclude", nil, "of the source don't take these `PLATFORM`s")
	p.BoolVar(&f.promote, "promote-single", false, "take a single image for a list of one platform")
	f.addMaking(p)
}

// addMaking adds what is said of lists that are made anew.
func (f *listFlags) addMaking(p *pflag.FlagSet) {
	p.BoolVar(&f.strict, "strict-os-version", false, "tell Windows builds apart by the whole os.version, not by three components")
	p.StringVar(&f.indexType, "index-type", "", "insist on a `TYPE`: docker or oci (default: the source's, oci where docker's can't hold it)")
	p.StringVar(&f.style, "json-style", "", "write lists that are made anew as `STYLE`: compact, or pubtools, as pubtools-quay does (default compact)")
}

func (f *listFlags) check() error {
	switch {
	case f.indexType != "" && f.indexType != "docker" && f.indexType != "oci":
		return oci.Usage("--index-type takes docker or oci, not " + f.indexType)
	case f.style != "" && f.style != "compact" && f.style != "pubtools":
		return oci.Usage("--json-style takes compact or pubtools, not " + f.style)
	}
	return nil
}

func (f *listFlags) indexStyle() index.Style {
	if f.style == "compact" {
		return index.Compact
	}
	return index.Style(f.style)
}

// options gives the flags as the library takes them.
func (f *listFlags) options() (publish.MergeOptions, error) {
	opt := publish.MergeOptions{StrictOSVersion: f.strict, Type: f.indexType, Style: f.indexStyle(), PromoteSingle: f.promote}
	var err error
	if opt.Select.Only, err = platformsOf("--only", f.only); err != nil {
		return opt, err
	}
	if opt.Select.Except, err = platformsOf("--exclude", f.exclude); err != nil {
		return opt, err
	}
	return opt, f.check()
}

// platformsOf reads patterns of platforms: OS/ARCH[/VARIANT], or an architecture.
func platformsOf(flag string, words []string) ([]oci.Platform, error) {
	var all []oci.Platform
	for _, w := range words {
		parts := strings.Split(w, "/")
		switch {
		case len(parts) > 3 || strings.Contains("/"+w+"/", "//"):
			return nil, oci.Usage(fmt.Sprintf("%s %q: write OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64, or an architecture", flag, w))
		case len(parts) == 1:
			all = append(all, oci.Platform{Architecture: parts[0]})
		case len(parts) == 2:
			all = append(all, oci.Platform{OS: parts[0], Architecture: parts[1]})
		default:
			all = append(all, oci.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]})
		}
	}
	return all, nil
}

func (a *app) mergeCmd() *cobra.Command {
	var f releaseFlags
	var lists listFlags
	cmd := &cobra.Command{
		Use:   "merge SOURCE DESTINATION",
		Short: "Add platforms to a tag's manifest list",
		Long: `Merge gives DESTINATION a list that has all platforms of SOURCE, and of its own those
that SOURCE lacks. Images that DESTINATION's repository lacks are copied there
first; nothing is written if one that is kept is missing. If somebody else moves
the tag meanwhile, the list is made anew. --dry-run shows what becomes of each
platform.`,
		Example: `  quaymaster merge quay.io/org/app:build-arm64 quay.io/org/app:v1 --dry-run
  quaymaster merge registry.example.com/app:new quay.io/org/app:v1 --exclude linux/s390x`,
		Args: args("SOURCE", "DESTINATION"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.merge(ctx, args[0], args[1], &f, &lists)
		}),
	}
	f.add(cmd.Flags())
	lists.add(cmd.Flags())
	return cmd
}

func (a *app) merge(ctx context.Context, from, to string, f *releaseFlags, lists *listFlags) error {
	refs, err := tagged([]string{from, to})
	if err != nil {
		return err
	}
	opt, err := lists.options()
	if err != nil {
		return err
	}
	if opt.Guard, opt.Hooks, err = f.settings(); err != nil {
		return err
	}
	return a.publish(ctx, deed{
		command: "merge", sources: refs[:1], dests: refs[1:], flags: &f.publishFlags,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			return p.Merge(ctx, refs[0], refs[1], opt)
		},
		event: func(*publish.Report) (string, map[string]any) {
			return "quay_images_merged", map[string]any{"source_ref": refs[0].String(), "dest_ref": refs[1].String()}
		},
	})
}
