package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/search"
)

// searchFlags are what search looks for besides names, and how it prints.
type searchFlags struct {
	regex, setuid, visible bool
	content, sha256        string
	script                 bool
}

func (a *app) searchCmd() *cobra.Command {
	var f searchFlags
	cmd := &cobra.Command{
		Use:   "search SOURCE [PATTERN]",
		Short: "Find files in the layers of images",
		Long: `Search reads the layers of the images of SOURCE, each distinct layer once, and shows
the entries whose whole name or base name PATTERN, a glob in which * also crosses
/, stands for. All platforms of an index are searched, unless --platform chooses.

With --content, --setuid or --sha256 PATTERN may be left out. What is searched for
must meet all that is given. A layer that can't be read is told, and the rest goes
on; the exit status is 1 then. That nothing is found is no failure.`,
		Example: `  quaymaster search registry://quay.io/kolla/nova-api:latest '*/nova.conf'
  quaymaster search 'quay://kolla/*:2025.1-debian' --setuid --visible -O jsonl
  quaymaster search ocidir://kolla '*.py' --content 'AKIA[0-9A-Z]{16}' --script-friendly`,
		Args: func(cmd *cobra.Command, got []string) error {
			if len(got) == 1 && (f.content != "" || f.setuid || f.sha256 != "") {
				return nil
			}
			return args("SOURCE", "PATTERN")(cmd, got)
		},
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.search(ctx, args[0], args[1:], f)
		}),
	}
	p := cmd.Flags()
	p.BoolVar(&f.regex, "regex", false, "PATTERN is a regular expression (RE2) that matches somewhere in the name")
	p.StringVar(&f.content, "content", "", "only files in which the regular expression `REGEX` matches somewhere")
	p.BoolVar(&f.setuid, "setuid", false, "only files with the setuid or setgid bit")
	p.StringVar(&f.sha256, "sha256", "", "only files whose content has the sha256 `HEX`")
	p.BoolVar(&f.visible, "visible", false, "only what is in an image's final file system")
	p.BoolVar(&f.script, "script-friendly", false, "print IMAGE:TAG:LAYERHEX:PATH, a line each")
	return cmd
}

// query reads the flags and the pattern, if there is one. Errors match
// [oci.ErrUsage].
func (f searchFlags) query(pattern []string, details bool) (search.Query, error) {
	q := search.Query{SetID: f.setuid, Visible: f.visible, Details: details}
	var err error
	for _, p := range pattern {
		m, err := filter.NewMatcher(p, f.regex)
		if err != nil {
			return q, err
		}
		q.Name = m.Match
	}
	if f.content != "" {
		if q.Content, err = regexp.Compile(f.content); err != nil {
			return q, oci.Usage(fmt.Sprintf("--content: %v", err))
		}
	}
	if f.sha256 != "" {
		q.SHA256, err = search.Digest(f.sha256)
	}
	return q, err
}

func (a *app) search(ctx context.Context, uri string, pattern []string, f searchFlags) error {
	text := a.work.output == "text"
	if f.script && !text {
		return oci.Usage("--script-friendly is text; leave it or --output-format away")
	}
	q, err := f.query(pattern, !text)
	if err != nil {
		return err
	}
	s, err := a.open(ctx, uri, "")
	if err != nil {
		return err
	}
	defer s.close()
	opt := bulk.Options{Images: a.work.images, Platforms: s.platforms, Warn: a.warnf}
	if s.images.Bulk() {
		progress := a.newProgress("", "images", true)
		defer progress.close()
		opt.Events = progress.event
	}
	searcher := search.New(q, search.Options{Layers: a.work.blobs})
	out := a.searchOutput(s.images.Bulk(), f.script)
	var ended, told error // what ended the listing; what was told of images
	for found, err := range bulk.Search(ctx, s.images, searcher, opt) {
		switch {
		case err == nil:
		case ctx.Err() != nil:
			ended = err
			continue
		case len(found.Results) > 0 || s.images.Bulk() && ofSearched(found, err):
			a.tellFailed(err)
			told = errors.Join(told, err)
		default:
			ended = err
			continue
		}
		if err := out.image(found); err != nil {
			return err
		}
	}
	if out.images == 0 && ended == nil && told == nil {
		a.noneFound(s)
	}
	a.tellListing(s)
	if err := out.end(ended != nil); err != nil {
		return err
	}
	if s.images.Bulk() {
		a.sayf("Searched %s, read %s: %s in %s", count(out.images, "image"), count(int(searcher.Read()), "distinct layer"), matches(out.matches), count(out.with, "image"))
	}
	switch {
	case ended != nil:
		return hinted(ended)
	case told != nil:
		a.tellHints(told)
		return errReported
	}
	return nil
}

// tellFailed prints a line for each error that err joins.
func (a *app) tellFailed(err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintf(a.talk, "Failed: %s\n", oneLine(line))
	}
}

// ofSearched reports whether err, which came with found, is about one image
// rather than the listing.
func ofSearched(found bulk.Searched, err error) bool {
	e, ok := errors.AsType[*oci.Error](err)
	return found.Ref != oci.Ref{} || ok && e.Op == "open source"
}
