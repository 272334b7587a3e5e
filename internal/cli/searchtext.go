package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
	"github.com/quaymaster/quaymaster/search"
)

// A searchOutput prints what search finds as it comes.
type searchOutput struct {
	*app
	bulk, script bool

	images  int // that were searched
	with    int // of them, something was found in
	matches int
	shown   int // sections of text, or elements of the array
}

func (a *app) searchOutput(bulk, script bool) *searchOutput {
	return &searchOutput{app: a, bulk: bulk, script: script}
}

// image prints what was found in one image.
func (o *searchOutput) image(found bulk.Searched) error {
	if len(found.Results) == 0 {
		return nil
	}
	o.images++
	before := o.matches
	told := map[oci.Digest]bool{} // layers; platforms share them
	for i := range found.Results {
		r := &found.Results[i]
		var err error
		switch {
		case o.app.work.output != "text":
			err = o.objects(found.Ref, r)
		case o.script:
			err = o.lines(found.Ref, r, told)
		default:
			err = o.section(found, r)
		}
		if err != nil {
			return err
		}
	}
	if o.matches > before {
		o.with++
	}
	return nil
}

// end prints what follows the last image. cut means that the listing ended early.
func (o *searchOutput) end(cut bool) error {
	var err error
	switch {
	case o.app.work.output == "json" && o.shown > 0:
		_, err = fmt.Fprintln(o.out, "\n]")
	case o.app.work.output == "json" && !cut:
		_, err = fmt.Fprintln(o.out, "[]")
	case o.app.work.output == "text" && !o.script && o.matches == 0 && o.images > 0:
		_, err = fmt.Fprintln(o.out, "No matches found.")
	}
	return err
}

// section prints r as occystrap does, under a heading where there may be others.
func (o *searchOutput) section(found bulk.Searched, r *search.Result) error {
	w := bufio.NewWriter(o.out)
	matched, layers := 0, 0
	for l := range r.Found() {
		if layers == 0 {
			if o.shown > 0 {
				fmt.Fprint(w, "\n---\n\n")
			}
			if o.bulk || found.Index {
				fmt.Fprintf(w, "Image: %s\n\n", strings.TrimSpace(oneLine(join(name(found.Ref), platformOf(r, "(", ")")))))
			}
			o.shown++
		}
		layers++
		fmt.Fprintf(w, "Layer: %s\n", l.Digest.Encoded())
		for m := range l.Matches() {
			fmt.Fprintf(w, "  %s\n", oneLine(matchText(m)))
			matched++
		}
		fmt.Fprintln(w)
	}
	o.matches += matched
	if matched > 0 {
		fmt.Fprintf(w, "Found %s in %s.\n", matches(matched), count(layers, "layer"))
	}
	return w.Flush()
}

// lines prints IMAGE:TAG:LAYERHEX:PATH for each match, those of a layer that
// platforms share once.
func (o *searchOutput) lines(ref oci.Ref, r *search.Result, told map[oci.Digest]bool) error {
	w := bufio.NewWriter(o.out)
	for l := range r.Found() {
		if told[l.Digest] {
			continue
		}
		told[l.Digest] = true
		for m := range l.Matches() {
			fmt.Fprintln(w, oneLine(name(ref)+":"+l.Digest.Encoded()+":"+m.Path))
			o.matches++
		}
	}
	return w.Flush()
}

// matched is the JSON of one match; docs/cli.md has its meaning.
type matched struct {
	Reference string     `json:"reference"`
	Image     string     `json:"image"`
	Tag       string     `json:"tag"`
	Platform  string     `json:"platform"`
	Layer     oci.Digest `json:"layer"`
	DiffID    oci.Digest `json:"diff_id"`
	Path      string     `json:"path"`
	Type      string     `json:"type"`
	Size      int64      `json:"size"`
	Mode      string     `json:"mode"`
	UID       int        `json:"uid"`
	GID       int        `json:"gid"`
	Link      string     `json:"link"`
	Hidden    bool       `json:"hidden"`
}

// objects prints each match as JSON: as a line, or as the next of an array.
func (o *searchOutput) objects(ref oci.Ref, r *search.Result) error {
	w := bufio.NewWriter(o.out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var element bytes.Buffer
	if o.app.work.output == "json" {
		enc = json.NewEncoder(&element)
		enc.SetEscapeHTML(false)
		enc.SetIndent("  ", "  ")
	}
	for l := range r.Found() {
		for m, hidden := range l.Matches() {
			j := matched{
				Reference: ref.Tagged(), Image: ref.Repository, Tag: ref.Tag, Platform: platformOf(r, "", ""),
				Layer: l.Digest, DiffID: l.DiffID, Path: m.Path, Type: m.Type(), Size: m.Size,
				Mode: fmt.Sprintf("%04o", m.Mode), UID: m.UID, GID: m.GID, Link: m.Link, Hidden: hidden,
			}
			if m.Whiteout() {
				j.Type = "whiteout"
			}
			if err := enc.Encode(j); err != nil {
				return err
			}
			if element.Len() > 0 {
				begin := ",\n  "
				if o.shown == 0 {
					begin = "[\n  "
				}
				fmt.Fprintf(w, "%s%s", begin, bytes.TrimRight(element.Bytes(), "\n"))
				element.Reset()
			}
			o.shown++
			o.matches++
		}
	}
	return w.Flush()
}

// name gives IMAGE:TAG without the registry host, as occystrap does.
func name(ref oci.Ref) string {
	ref.Registry = ""
	return ref.Tagged()
}

// platformOf gives the platform of r between before and after: what its config
// says, or the index; "" where neither is known.
func platformOf(r *search.Result, before, after string) string {
	p := r.Platform
	if r.Config != nil && r.Config.OS != "" {
		p = &r.Config.Platform
	}
	if p == nil {
		return ""
	}
	return before + pipeline.PlatformName(p) + after
}

// matchText gives the line of one match.
func matchText(m search.Match) string {
	switch m.Type() {
	case "file":
		return fmt.Sprintf("%s (file, %d bytes)", m.Path, m.Size)
	case "symlink", "hardlink":
		return fmt.Sprintf("%s -> %s (%s)", m.Path, m.Link, m.Type())
	}
	return fmt.Sprintf("%s (%s)", m.Path, m.Type())
}

// matches gives "1 match", "2 matches".
func matches(n int) string {
	if n == 1 {
		return "1 match"
	}
	return fmt.Sprintf("%d matches", n)
}
