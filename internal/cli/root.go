package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/quaymaster/quaymaster/oci"
)

// app is one run of the program: where it reads and prints, and its global
// flags, grouped by what they are about.
type app struct {
	in        io.Reader
	out, talk io.Writer
	getenv    func(string) string

	conn  connFlags
	creds credFlags
	plat  platformFlags
	work  workFlags
	disc  discoverFlags
	undo  undoing

	settled bool // a verb that moves tags has ended, before whatever signal came

	names     destFlags // of process
	tempDir   string
	onlyFirst bool // of several images in the source take the first

	quiet bool
	debug bool
	verb  bool
	log   *slog.Logger
}

// workFlags say how much at once, and how results are checked and told.
type workFlags struct {
	blobs, images int
	verify        bool // false is noVerify
	noVerify      bool
	verifyFull    bool
	output        string
	report        string
}

// discoverFlags are about the listings of bulk sources.
type discoverFlags struct {
	quayHost    string
	cacheDir    string
	minExpected int
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "quaymaster",
		Short: "Discover, inspect, filter, mirror and publish container images in bulk",
		Long: `Quaymaster finds, inspects, filters, mirrors and publishes container images in bulk, with
Quay as its first-class registry.

  quaymaster list    'quay://kolla/nova-*:2025.1-*?since=2026-01-01'
  quaymaster info    'quay://kolla/*:2025.1-debian'
  quaymaster process 'quay://kolla/*:2025.1-debian' ocidir://kolla
  quaymaster tag     quay.io/org/app:v1.2.3 quay.io/org/app:latest

Every flag has an environment variable QUAYMASTER_<FLAG>, for example
QUAYMASTER_IMAGE_PARALLEL. All sources and destinations: quaymaster help places.
Data goes to stdout, everything else to stderr. Exit status: 0 done, 1 something
failed, 2 usage or configuration, 3 refused by a safety rule, 4 failed and not all
could be undone, 130 interrupted.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := a.fromEnv(cmd); err != nil {
				return err
			}
			a.log = a.logger()
			a.creds.warn(cmd, args, a.talk)
			return a.check()
		},
		Args: cobra.ArbitraryArgs, // or cobra itself refuses what is no command
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			text := fmt.Sprintf("unknown command %q", args[0])
			if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
				text += "; did you mean " + strings.Join(meant, " or ") + "?"
			}
			return oci.Usage(text + "; see quaymaster --help")
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(a.out)
	root.SetErr(a.talk)
	root.SetIn(a.in)
	root.SetVersionTemplate("quaymaster {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return oci.Usage(err.Error() + "; see " + cmd.CommandPath() + " --help")
	})
	p := root.PersistentFlags()
	p.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, no summary; errors only")
	p.BoolVarP(&a.verb, "verbose", "v", false, "log what the program does")
	p.BoolVar(&a.debug, "debug", false, "log every request as well, without secrets")
	p.IntVarP(&a.work.blobs, "parallel", "j", 4, "blob transfers, and requests of a listing, at once")
	p.IntVarP(&a.work.images, "image-parallel", "J", 3, "images at once")
	p.BoolVar(&a.work.noVerify, "no-verify", false, "don't check what was written")
	p.BoolVar(&a.work.verify, "verify", true, "check what was written (the default)")
	p.BoolVar(&a.work.verifyFull, "verify-full", false, "read every blob back and hash it")
	p.StringVarP(&a.work.output, "output-format", "O", "text", "text, json or jsonl")
	p.StringVar(&a.work.report, "report", "", "write a report of the run to `FILE` (JSON, docs/report.md)")
	p.StringVar(&a.disc.quayHost, "quay-host", "", "the Quay that quay:// means (default quay.io)")
	p.StringVar(&a.disc.cacheDir, "discovery-cache", "", "keep listings in `DIR` for an hour")
	p.IntVar(&a.disc.minExpected, "min-expected", 0, "refuse (exit 3) a listing of fewer than `N` images")
	a.conn.add(p)
	a.creds.add(p)
	a.plat.add(p)
	p.StringVar(&a.tempDir, "temp-dir", "", "`DIR` for temporary files that belong beside no destination (default TMPDIR)")
	for _, name := range []string{"compression", "layer-cache"} { // of process; occystrap takes them anywhere
		p.String(name, "", "for process")
		_ = p.MarkHidden(name) // it is there
	}
	root.AddCommand(a.oldCmds()...)
	root.AddCommand(placesTopic())
	root.AddCommand(a.listCmd(), a.infoCmd(), a.searchCmd(), a.checkCmd(), a.diffCmd(), a.processCmd(), a.loginCmd(), a.logoutCmd(), a.versionCmd())
	root.AddCommand(a.pushCmd(), a.tagCmd(), a.mergeCmd(), a.untagCmd(), a.repoCmd(), a.rollbackCmd(), a.restoreCmd(), a.historyCmd())
	root.AddCommand(a.oldPublishCmds()...)
	for _, c := range root.Commands() {
		if strings.Contains(c.Use, " SOURCE") {
			c.ValidArgsFunction = completePlaces(c.Name() == "process")
		}
		completeWords(c)
	}
	completeWords(root)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = args("bash|fish|powershell|zsh"), func(c *cobra.Command, _ []string) error { return c.Args(c, nil) }
	}
	return root
}

// check refuses values that no command takes.
func (a *app) check() error {
	a.work.noVerify = a.work.noVerify || !a.work.verify
	if err := errors.Join(a.useTempDir(), a.checkReport()); err != nil {
		return err
	}
	switch {
	case a.work.blobs < 1 || a.work.images < 1:
		return oci.Usage("--parallel and --image-parallel take a whole number of at least 1")
	case a.work.noVerify && a.work.verifyFull:
		return oci.Usage("--no-verify and --verify-full exclude each other")
	case !strings.Contains(" text json jsonl ", " "+a.work.output+" "):
		return oci.Usage("--output-format takes text, json or jsonl, not " + a.work.output)
	}
	return nil
}

// useTempDir makes --temp-dir what os.TempDir gives.
func (a *app) useTempDir() error {
	if a.tempDir == "" {
		return nil
	}
	if fi, err := os.Stat(a.tempDir); err != nil || !fi.IsDir() {
		return oci.Usage(fmt.Sprintf("--temp-dir %s: there is no such folder", a.tempDir))
	}
	return os.Setenv("TMPDIR", a.tempDir)
}

// logger talks on stderr: warnings only, unless asked for more.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case a.debug:
		level = slog.LevelDebug
	case a.verb:
		level = slog.LevelInfo
	case a.quiet:
		level = slog.LevelError
	}
	if a.isTTY() && a.getenv("NO_COLOR") == "" {
		return slog.New(tint.NewTextHandler(a.talk, &tint.Options{Level: level}))
	}
	return slog.New(slog.NewTextHandler(a.talk, &slog.HandlerOptions{Level: level}))
}

// isTTY reports whether stderr is a terminal: bars or lines.
func (a *app) isTTY() bool {
	f, ok := a.talk.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// args makes cobra's argument check a usage error that shows how it goes.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) == len(names) {
			return nil
		}
		return oci.Usage("write " + cmd.CommandPath() + " " + strings.Join(names, " ") + "; see " + cmd.CommandPath() + " --help")
	}
}

// run is what every command's RunE has in common.
func run(do func(ctx context.Context, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return do(cmd.Context(), cmd, args) }
}
