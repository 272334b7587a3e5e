package cli

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/diff"
)

// signs are what stands in front of what only one side has, or both differ in.
var signs = map[diff.Status]string{diff.Added: "+", diff.Removed: "-", diff.Changed: "~", diff.Failed: "!"}

// diffText prints img: a line, and below it what differs.
func (a *app) diffText(img diff.Image) error {
	w := bufio.NewWriter(a.out)
	line := func(indent, format string, args ...any) {
		fmt.Fprintln(w, indent+oneLine(fmt.Sprintf(format, args...)))
	}
	switch img.Status {
	case diff.Added:
		line("", "+ %s", img.Image)
		return w.Flush()
	case diff.Removed:
		line("", "- %s", img.Image)
		return w.Flush()
	}
	line("", "%s %s", signs[img.Status], img.Image)
	for _, side := range []struct {
		name string
		*diff.Side
	}{{"A", img.A}, {"B", img.B}} {
		line("  ", "%s: %s %s", side.name, side.Reference, side.Digest)
	}
	for _, p := range img.Platforms {
		if p.Status == diff.Added || p.Status == diff.Removed {
			line("  ", "%s Platform: %s", signs[p.Status], p.Platform)
			continue
		}
		line("  ", "Platform: %s", p.Platform)
		platformText(p, line)
	}
	return w.Flush()
}

// platformText gives line what differs of p, group by group.
func platformText(p diff.PlatformChange, line func(indent, format string, args ...any)) {
	if len(p.Layers) > 0 {
		line("    ", "Layers:")
	}
	for _, l := range p.Layers {
		sign, more := signs[diff.Status(l.Change)], ""
		if sign == "" {
			sign, more = signs[diff.Changed], ", "+l.Change
		}
		line("      ", "%s %d: %s (%s%s)", sign, l.Index, l.Digest, bytesText(l.Size), more)
	}
	if len(p.Files) > 0 {
		line("    ", "Files:")
	}
	for _, f := range p.Files {
		line("      ", "%s %s", signs[f.Change], fileText(f))
	}
	if len(p.Config) > 0 {
		line("    ", "Config:")
	}
	for _, s := range p.Config {
		line("      ", "%s", settingText(s))
	}
	if len(p.Labels) > 0 {
		line("    ", "Labels:")
	}
	for _, s := range p.Labels {
		s.Key, s.Name = s.Name, ""
		line("      ", "%s", settingText(s))
	}
}

// fileText gives the path and what is there, or what has changed.
func fileText(f diff.File) string {
	path := cmp.Or(f.Path, "/")
	switch {
	case f.A == nil:
		return path + " (" + entryText(f.B) + ")"
	case f.B == nil:
		return path + " (" + entryText(f.A) + ")"
	}
	text := path
	for i, what := range f.What {
		if what == "content" && slices.Contains(f.What, "type") {
			continue // it goes without saying
		}
		sep := ": "
		if i > 0 {
			sep = ", "
		}
		text += sep + what
		switch what {
		case "type":
			text += fmt.Sprintf(" %s -> %s", f.A.Type, f.B.Type)
		case "size":
			text += fmt.Sprintf(" %d -> %d", f.A.Size, f.B.Size)
		case "mode":
			text += fmt.Sprintf(" %s -> %s", f.A.Mode, f.B.Mode)
		case "owner":
			text += fmt.Sprintf(" %d:%d -> %d:%d", f.A.UID, f.A.GID, f.B.UID, f.B.GID)
		case "link":
			text += fmt.Sprintf(" %q -> %q", f.A.Link, f.B.Link)
		}
	}
	return text
}

func entryText(e *diff.Entry) string {
	if e.Type == "file" {
		return fmt.Sprintf("file, %d bytes", e.Size)
	}
	return e.Type
}

// settingText gives "+ env A=…", "- …", or "~ env A: … -> …".
func settingText(s diff.Setting) string {
	what := s.Key
	if s.Name != "" {
		what += " " + s.Name
	}
	isName := s.Key == "port" || s.Key == "volume"
	switch {
	case isName && s.A == nil:
		return "+ " + what
	case isName:
		return "- " + what
	case s.A == nil:
		return "+ " + what + ": " + valueText(s.B)
	case s.B == nil:
		return "- " + what + ": " + valueText(s.A)
	}
	return "~ " + what + ": " + valueText(s.A) + " -> " + valueText(s.B)
}

// valueText gives a string, or a list of them, in quotes.
func valueText(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
