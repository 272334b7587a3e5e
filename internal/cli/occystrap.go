package cli

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// An oldCommand is one of occystrap's from before it had URIs. It is hidden, and
// says what to write instead; scripts go on as they are.
type oldCommand struct {
	name     string
	from, to oldEnd
}

// An oldEnd is what such a command reads, or does with it.
type oldEnd struct {
	args []string
	uri  func(f *oldFlags, args []string) string
	add  func(f *oldFlags, p *pflag.FlagSet) // options; nil for none
}

// oldFlags are the options that they have besides the global ones.
type oldFlags struct {
	socket         string
	unique, expand bool
	normalize      bool
	timestamp      int64
	search         searchFlags
}

var (
	oldRegistry = oldEnd{args: []string{"REGISTRY", "IMAGE", "TAG"}, uri: func(_ *oldFlags, args []string) string {
		return "registry://" + escape(args[0]+"/"+args[1]+":"+args[2])
	}}
	oldDocker = oldEnd{args: []string{"IMAGE", "TAG"},
		uri: func(f *oldFlags, args []string) string {
			return "docker://" + escape(args[0]+":"+args[1]) + options("socket", f.socket)
		},
		add: func(f *oldFlags, p *pflag.FlagSet) { p.StringVar(&f.socket, "socket", "", "the daemon's socket") },
	}
	oldTarfile = oldEnd{args: []string{"TARFILE"}, uri: func(_ *oldFlags, args []string) string { return "tar://" + backend.EscapePath(args[0]) }}
	oldFolder  = oldEnd{args: []string{"PATH", "IMAGE", "TAG"}, uri: func(_ *oldFlags, args []string) string {
		return "dir://" + backend.EscapePath(args[0]) + ":" + escape(args[1]+":"+args[2])
	}}

	oldToFolder = oldEnd{args: []string{"PATH"},
		uri: func(f *oldFlags, args []string) string {
			return "dir://" + backend.EscapePath(args[0]) + options("unique_names", yes(f.unique), "expand", yes(f.expand))
		},
		add: func(f *oldFlags, p *pflag.FlagSet) {
			p.BoolVar(&f.unique, "use-unique-names", false, "a manifest file for each image")
			p.BoolVar(&f.expand, "expand", false, "write the merged file system as well")
		},
	}
	oldToBundle = oldEnd{args: []string{"PATH"}, uri: func(_ *oldFlags, args []string) string {
		return "oci://" + backend.EscapePath(args[0]) + options("hostname", "occystrap")
	}}
	oldToMounts  = oldEnd{args: []string{"PATH"}, uri: func(_ *oldFlags, args []string) string { return "mounts://" + backend.EscapePath(args[0]) }}
	oldToTarfile = oldEnd{args: []string{"TARFILE"},
		uri: func(_ *oldFlags, args []string) string {
			return "tar://" + backend.EscapePath(args[0]) + options("repo_tags", "basename")
		},
		add: func(f *oldFlags, p *pflag.FlagSet) {
			p.BoolVar(&f.normalize, "normalize-timestamps", false, "give all files one time")
			p.Int64Var(&f.timestamp, "timestamp", 0, "that time, in seconds since 1970")
		},
	}
	oldSearch = oldEnd{args: []string{"PATTERN"},
		add: func(f *oldFlags, p *pflag.FlagSet) {
			p.BoolVar(&f.search.regex, "regex", false, "PATTERN is a regular expression")
			p.BoolVar(&f.search.script, "script-friendly", false, "print IMAGE:TAG:LAYERHEX:PATH, a line each")
		},
	}
)

// oldCommands are all of them.
var oldCommands = []oldCommand{
	{"fetch-to-extracted", oldRegistry, oldToFolder},
	{"fetch-to-oci", oldRegistry, oldToBundle},
	{"fetch-to-tarfile", oldRegistry, oldToTarfile},
	{"fetch-to-mounts", oldRegistry, oldToMounts},
	{"recreate-image", oldFolder, oldToTarfile},
	{"tarfile-to-extracted", oldTarfile, oldToFolder},
	{"docker-to-tarfile", oldDocker, oldToTarfile},
	{"docker-to-extracted", oldDocker, oldToFolder},
	{"docker-to-oci", oldDocker, oldToBundle},
	{"search-layers", oldRegistry, oldSearch},
	{"search-layers-docker", oldDocker, oldSearch},
	{"search-layers-tarfile", oldTarfile, oldSearch},
}

func (a *app) oldCmds() []*cobra.Command {
	var all []*cobra.Command
	for _, c := range oldCommands {
		all = append(all, a.oldCmd(c))
	}
	return all
}

func (a *app) oldCmd(c oldCommand) *cobra.Command {
	var f oldFlags
	names := append(append([]string{}, c.from.args...), c.to.args...)
	cmd := &cobra.Command{
		Use:    c.name + " " + strings.Join(names, " "),
		Short:  "occystrap's old command",
		Hidden: true,
		Args:   args(names...),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.old(ctx, c, &f, args)
		}),
	}
	for _, e := range []oldEnd{c.from, c.to} {
		if e.add != nil {
			e.add(&f, cmd.Flags())
		}
	}
	return cmd
}

// old does what c means, as the command that it tells to write instead does it.
func (a *app) old(ctx context.Context, c oldCommand, f *oldFlags, args []string) error {
	n := len(c.from.args)
	source := c.from.uri(f, args[:n])
	a.onlyFirst = true
	if c.to.uri == nil {
		if n == len(oldRegistry.args) {
			a.plat.defaults()
		}
		a.deprecated(c.name, "search", source, args[n], f.search.words())
		return a.search(ctx, source, args[n:], f.search)
	}
	var p processFlags
	var words string
	if f.normalize {
		p.filters = []string{fmt.Sprintf("normalize-timestamps:timestamp=%d", f.timestamp)}
		words = " -f " + p.filters[0]
	}
	dest := c.to.uri(f, args[n:])
	a.deprecated(c.name, "process", source, dest, words)
	return a.process(ctx, source, dest, p)
}

// deprecated says what to write instead of name.
func (a *app) deprecated(name, verb, source, rest, words string) {
	a.warnf(fmt.Sprintf("%s is deprecated, as in occystrap; write: quaymaster %s '%s' '%s'%s", name, verb, source, rest, words))
}

// words are the flags as they are written.
func (f searchFlags) words() string {
	var words string
	if f.regex {
		words += " --regex"
	}
	if f.script {
		words += " --script-friendly"
	}
	return words
}

// escape writes s so that a URI has it as it is.
func escape(s string) string { return strings.NewReplacer("%", "%25", "?", "%3F").Replace(s) }

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// options gives those that have a value, by name and value.
func options(pairs ...string) string {
	var b strings.Builder
	sep := "?"
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			b.WriteString(sep + pairs[i] + "=" + strings.NewReplacer("%", "%25", "&", "%26").Replace(pairs[i+1]))
			sep = "&"
		}
	}
	return b.String()
}

// firstImage makes of any number of images the first, as a place of one: what
// occystrap takes of an archive.
type firstImage struct {
	backend.Images
	warn func(string)
}

// Bulk implements [backend.Images].
func (firstImage) Bulk() bool { return false }

// Discover gives the first image.
func (f firstImage) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		var first *oci.Item
		for item, err := range f.Images.Discover(ctx) {
			if first != nil && err == nil {
				f.warn(fmt.Sprintf("there are more images than %s; this command takes one", first.Ref.Tagged()))
				break
			}
			if first = &item; err != nil {
				yield(item, err)
				return
			}
		}
		if first != nil {
			yield(*first, nil)
		}
	}
}
