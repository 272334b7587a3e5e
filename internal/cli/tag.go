package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// releaseFlags are those of the verbs that give images tags: guard tags and hooks.
type releaseFlags struct {
	publishFlags
	guard        string
	guardExpires time.Duration
	sign, attest string
}

func (f *releaseFlags) add(p *pflag.FlagSet) {
	f.addInside(p)
	f.addCompanions(p)
}

// addInside adds those of verbs that stay inside one repository, where companions
// are already.
func (f *releaseFlags) addInside(p *pflag.FlagSet) {
	f.publishFlags.add(p)
	f.addUndo(p)
	p.StringVar(&f.guard, "guard-tag", "", "give each new digest a tag of its own as well, which keeps it when the other moves on: a `TEMPLATE` of {tag}, {timestamp} and {digest}")
	p.Lookup("guard-tag").NoOptDefVal = publish.DefaultGuard
	p.DurationVar(&f.guardExpires, "guard-expires", 0, "let guard tags expire after `TIME`, on a Quay with an API token")
	p.StringVar(&f.sign, "sign-cmd", "", "run `COMMAND` with the digest references behind it once all tags are set; if it fails, all is undone")
	p.StringVar(&f.attest, "attest-cmd", "", "the same, after --sign-cmd")
}

// settings gives guard and hooks.
func (f *releaseFlags) settings() (publish.Guard, publish.Hooks, error) {
	sign, err := split("--sign-cmd", f.sign)
	if err != nil {
		return publish.Guard{}, publish.Hooks{}, err
	}
	attest, err := split("--attest-cmd", f.attest)
	return publish.Guard{Template: f.guard, Expire: f.guardExpires}, publish.Hooks{Sign: sign, Attest: attest}, err
}

func (a *app) tagCmd() *cobra.Command {
	var f releaseFlags
	cmd := &cobra.Command{
		Use:   "tag SOURCE DESTINATION...",
		Short: "Give an image further tags, anywhere",
		Long: `Tag lets each DESTINATION mean what SOURCE means, with all platforms, byte for byte.
Within one repository no layer moves; into others the image is copied, with its
signatures, attestations and referrers. --platform takes one platform's image.
If something fails, the tags that were moved get back what they had.`,
		Example: `  quaymaster tag quay.io/org/app:v1.2.3 quay.io/org/app:v1.2 quay.io/org/app:latest
  quaymaster tag registry.example.com/build/app@sha256:… quay.io/org/app:v1`,
		Args: cobra.ArbitraryArgs,
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return oci.Usage("write quaymaster tag SOURCE DESTINATION...; see quaymaster tag --help")
			}
			return a.tag(ctx, args[0], args[1:], &f)
		}),
	}
	f.add(cmd.Flags())
	cmd.AddCommand(a.tagAddCmd(), a.tagRemoveCmd())
	return cmd
}

func (a *app) tag(ctx context.Context, from string, to []string, f *releaseFlags) error {
	refs, err := tagged(append([]string{from}, to...))
	if err != nil {
		return err
	}
	platforms, err := a.plat.list(backend.URI{})
	if err != nil {
		return err
	}
	if len(platforms) > 1 {
		return oci.Usage("tag takes one --platform, or none for all")
	}
	var opt publish.TagOptions
	if len(platforms) == 1 {
		opt.Platform = &platforms[0]
	}
	if opt.Guard, opt.Hooks, err = f.settings(); err != nil {
		return err
	}
	return a.publish(ctx, deed{
		command: "tag", sources: refs[:1], dests: refs[1:], flags: &f.publishFlags,
		do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
			return p.Tag(ctx, refs[0], refs[1:], opt)
		},
		event: func(*publish.Report) (string, map[string]any) {
			return "quay_images_tagged", map[string]any{"source_ref": refs[0].String(), "dest_refs": sortedRefs(refs[1:])}
		},
	})
}

// split takes a command apart into its words: by white space, with quotes and
// backslashes as in a shell, and nothing else of one.
func split(flag, command string) ([]string, error) {
	var out []string
	var word strings.Builder
	in, quote := false, rune(0)
	rest := []rune(command)
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(rest):
			i++
			word.WriteRune(rest[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				out = append(out, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, oci.Usage(fmt.Sprintf("%s: a %c is not closed", flag, quote))
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}
