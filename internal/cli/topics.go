package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/backend/all"
)

// placesTopic is `quaymaster help places`: all schemes and their options.
func placesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Sources and destinations are written SCHEME://REST[?option=value&…]. Quote them in a shell.\n")
	for _, k := range sources {
		use := "source and destination"
		switch {
		case k.Target == nil:
			use = "source"
		case k.Source == nil:
			use = "destination"
		}
		fmt.Fprintf(&b, "\n%s:// (%s)\n  %s\n", strings.Join(append([]string{k.Scheme}, k.Aliases...), "://, "), use, k.Help)
		for _, name := range slices.Sorted(maps.Keys(k.Options)) {
			fmt.Fprintf(&b, "    %-14s %s\n", name, k.Options[name])
		}
	}
	b.WriteString("\nMore is in docs/cli.md.")
	return &cobra.Command{Use: "places", Short: "What sources and destinations can be, and their options", Long: b.String()}
}

// completePlaces completes schemes: of the source, and of the destination where
// the command has one.
func completePlaces(destination bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		table := sources
		if destination && len(args) == 1 {
			table = all.Table
		}
		var out []cobra.Completion
		for _, k := range table {
			can := k.Source != nil
			if destination && len(args) == 1 {
				can = k.Target != nil
			}
			if can && strings.HasPrefix(k.Scheme+"://", word) {
				out = append(out, k.Scheme+"://")
			}
		}
		return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
}

// words are the flags that take one of some words.
var words = map[string][]cobra.Completion{
	"compression":   {"keep", "gzip", "zstd", "none"},
	"repo-tags":     {"full", "basename"},
	"visibility":    {"public", "private"},
	"output-format": {"text", "json", "jsonl"},
}

// completeWords completes their values. Flags that cmd only inherits are not
// asked for: they are their owner's, and cobra merges all of them to find one.
func completeWords(cmd *cobra.Command) {
	for name, values := range words {
		if cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // once for each
		}
	}
}
