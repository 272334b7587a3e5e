package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func (a *app) restoreCmd() *cobra.Command {
	var f publishFlags
	var asOf, digest string
	cmd := &cobra.Command{
		Use:   "restore REFERENCE",
		Short: "Let a tag mean again what it meant before",
		Long: `Restore sets REFERENCE to what it meant before its newest change, also where that
was its deletion; with --as-of to what it meant then; with --digest to that. On a
Quay that is its time machine, which keeps what tags meant for two weeks unless
set otherwise. quaymaster history shows what there is. On other registries
--digest works as long as the manifest is there.`,
		Example: `  quaymaster restore quay.io/org/app:v1
  quaymaster restore quay.io/org/app:v1 --as-of 2026-03-01T12:00:00Z
  quaymaster restore registry.example.com/app:v1 --digest sha256:…`,
		Args: args("REFERENCE"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			refs, err := tagged(args)
			if err != nil {
				return err
			}
			var opt publish.RestoreOptions
			if opt.AsOf, err = moment("--as-of", asOf); err != nil {
				return err
			}
			if opt.Digest = oci.Digest(digest); digest != "" && oci.ValidDigest(opt.Digest) != nil {
				return oci.Usage(fmt.Sprintf("--digest %q: write sha256: and 64 hexadecimal digits", digest))
			}
			if asOf != "" && digest != "" {
				return oci.Usage("--as-of and --digest exclude each other")
			}
			return a.publish(ctx, deed{
				command: "restore", dests: refs, flags: &f,
				do: func(ctx context.Context, p *publish.Publisher) (*publish.Report, error) {
					return p.Restore(ctx, refs[0], opt)
				},
			})
		}),
	}
	p := cmd.Flags()
	p.StringVar(&asOf, "as-of", "", "what it meant at `TIME`: a date (its end, UTC) or an RFC 3339 time")
	p.StringVar(&digest, "digest", "", "set it to `DIGEST`")
	f.add(p)
	return cmd
}

// moment reads a date, which is its end, or a time.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.Add(24*time.Hour - time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	if err != nil {
		return t, oci.Usage(fmt.Sprintf("%s %q: write a date, 2026-03-01, or a time, 2026-03-01T12:00:00Z", flag, text))
	}
	return t, nil
}
