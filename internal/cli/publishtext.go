package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// printChanges prints what became of each tag: data, so it goes to stdout, or to
// stderr where that belongs to events.
func (a *app) printChanges(r *publish.Report, stdoutTaken bool) error {
	switch a.work.output {
	case "json":
		return a.printJSON(r)
	case "jsonl":
		return a.printLines(r)
	}
	to := a.out
	if stdoutTaken {
		to = a.talk
	}
	for _, i := range r.Items {
		for _, c := range i.Changes {
			if err := printChange(to, c); err != nil {
				return err
			}
		}
		for _, d := range i.LostDigests {
			if _, err := fmt.Fprintf(to, "%-11s  %s@%s\n", "lost", i.Source, d); err != nil {
				return err
			}
		}
	}
	if len(r.Items) > 0 {
		return nil // what undoing did stands in their statuses
	}
	for _, c := range r.Undone {
		if err := printChange(to, c); err != nil {
			return err
		}
	}
	return nil
}

// printChange prints one line for a tag, what it meant and means, and one for each of
// its platforms that changes.
func printChange(to io.Writer, c publish.Change) error {
	line := fmt.Sprintf("%-11s  %s", c.Status, c.Reference)
	platforms := c.Platforms
	switch {
	case c.Status == publish.Failed || c.Status == publish.Skipped || c.Status == publish.Conflict:
		platforms = nil // the error says what it means now
	case c.Status == publish.RolledBack:
		line += "  " + cmp.Or(string(c.Old), "none")
		platforms = nil
	case c.Old != "" && c.New != "" && c.Old != c.New:
		line += "  " + string(c.Old) + " -> " + string(c.New)
	case c.Old != "" && c.New == "":
		line += "  " + string(c.Old) + " -> none"
	case c.New != "":
		line += "  " + string(c.New)
	}
	if _, err := fmt.Fprintln(to, oneLine(line)); err != nil {
		return err
	}
	for _, p := range platforms {
		if _, err := fmt.Fprintln(to, oneLine(mergeText(p))); err != nil {
			return err
		}
	}
	return nil
}

func mergeText(p publish.Platform) string {
	text := fmt.Sprintf("  %-9s  %s", p.Action, p.Platform)
	switch {
	case p.Old != "" && p.New != "" && p.Old != p.New:
		text += "  " + shortDigest(p.Old) + " -> " + shortDigest(p.New)
	case p.New != "":
		text += "  " + shortDigest(p.New)
	case p.Old != "":
		text += "  " + shortDigest(p.Old)
	}
	return text
}

func shortDigest(d oci.Digest) string { return string(d[:min(19, len(d))]) }

// printLines prints a JSON line for each tag.
func (a *app) printLines(r *publish.Report) error {
	jsonl := json.NewEncoder(a.out)
	jsonl.SetEscapeHTML(false)
	for _, i := range r.Items {
		for _, c := range i.Changes {
			if err := jsonl.Encode(c); err != nil {
				return err
			}
		}
	}
	if len(r.Items) > 0 {
		return nil
	}
	for _, c := range r.Undone {
		if err := jsonl.Encode(c); err != nil {
			return err
		}
	}
	return nil
}
