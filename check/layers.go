package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// read gives what is known of blob d, as a layer with its entries or of digest
// and size alone. Without facts the results say what is wrong with it.
func (c *Checker) read(ctx context.Context, src oci.Source, what string, d oci.Descriptor, entire bool) (*facts, []Result, error) {
	f, err := c.seen.get(ctx, key{d.Digest, entire}, func() (*facts, error) {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		rc, err := src.Fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		defer rc.Close()
		if entire {
			return c.walk(ctx, rc)
		}
		n, err := io.Copy(io.Discard, rc)
		if err != nil {
			return nil, err
		}
		return &facts{size: n}, nil
	})
	if err != nil {
		results, err := c.blame(ctx, src, what, d, ofLayer, err)
		return nil, results, err
	}
	if f.size != d.Size { // the one who read it had another descriptor
		return nil, []Result{found(Error, "blob-size", "%s has %d bytes, the manifest says %d", what, f.size, d.Size)}, nil
	}
	return f, nil, nil
}

// layers reads the layers of an image, some at once, and compares them with
// what manifest and config say of them. The last results are of all together.
func (x *exam) layers(ctx context.Context, layers []oci.Descriptor, diffIDs []oci.Digest) ([]Result, error) {
	all := make([]*facts, len(layers)) // nil where nothing is known of the entries
	results := make([][]Result, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(x.opt.Blobs)
	for i, d := range layers {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			what := fmt.Sprintf("layer %d (%s)", i, short(d.Digest))
			promised, isLayer := layer.CodecOf(d.MediaType)
			if !isLayer {
				results[i], err = x.bytes(gctx, x.src, what, d)
				return err
			}
			f, wrong, err := x.read(gctx, x.src, what, d, true)
			if f == nil {
				results[i] = wrong
				return err
			}
			all[i] = f
			var diffID oci.Digest
			if i < len(diffIDs) && len(diffIDs) == len(layers) {
				diffID = diffIDs[i]
			}
			results[i] = f.against(what, promised, diffID)
			return nil
		})
	}
	err := g.Wait()
	out := slices.Concat(results...)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return out, err
	}
	return append(out, x.together(all)...), nil
}

// against compares f with the codec that the media type promises and with the
// diffID of the config, "" for none.
func (f *facts) against(what string, promised layer.Codec, diffID oci.Digest) (out []Result) {
	if f.codec != "" && f.codec != promised {
		out = append(out, found(Error, "layer-media-type", "%s: its media type says %s, its bytes say %s", what, promised, f.codec))
	}
	if f.diffID != "" && diffID != "" {
		if diffID.Algorithm() == f.diffID.Algorithm() {
			out = append(out, either(f.diffID == diffID, "diff-id", what+": diff_id matches",
				fmt.Sprintf("%s: its tar is %s, the config says %s", what, short(f.diffID), short(diffID))))
		} else {
			out = append(out, found(Warning, "diff-id", "%s: diff_id is of %s, and only sha256 is compared", what, diffID.Algorithm()))
		}
	}
	for _, n := range f.notes {
		out = append(out, Result{n.severity, n.id, what + ": " + n.text})
	}
	return out
}

// together says what only all layers of an image tell, lowest first.
func (x *exam) together(all []*facts) []Result {
	entries := 0
	s := stack{}
	for i, f := range all {
		if f == nil || f.paths == nil {
			continue // told already; names are compared without it
		}
		if entries += len(f.paths.spots); entries > x.opt.MaxEntries {
			return []Result{found(Error, "layer-limits", "more than %d entries in all layers", x.opt.MaxEntries)}
		}
		s = append(s, tier{i, f})
	}
	var out []Result
	if len(s) == len(all) {
		out = s.dangling()
	}
	known := make(map[uint64]seat, entries)
	out = append(out, s.duplicates(known)...)
	return append(out, s.conflicts(known)...)
}

// A stack is the layers of one image whose entries are known, lowest first.
type stack []tier

// A tier is one layer of an image.
type tier struct {
	index int // among all of the image
	*facts
}

// A seat is where a path was seen first.
type seat struct {
	tier int
	pos  uint32
	file bool
	told bool
}

// listing tells up to maxShown findings one by one.
type listing struct {
	severity Severity
	id       string
	out      []Result
	more     int
}

func (l *listing) add(text func() string) {
	if len(l.out) < maxShown {
		l.out = append(l.out, found(l.severity, l.id, "%s", text()))
	} else {
		l.more++
	}
}

func (l *listing) results() []Result {
	if l.more > 0 {
		l.out = append(l.out, found(l.severity, l.id, "... and %d more", l.more))
	}
	return l.out
}

// dangling finds hard links whose target no lower layer has.
func (s stack) dangling() []Result {
	l := listing{severity: Error, id: "hardlink-dangling"}
	for i, t := range s {
		for _, link := range t.links {
			if !s[:i].has(link.target) && !s[:i+1].throughLink(link.target) {
				l.add(func() string {
					return fmt.Sprintf("layer %d: %s links to %s, which isn't there", t.index, link.name, cut(link.target))
				})
			}
		}
	}
	return l.results()
}

// has reports whether the file system that s makes has path.
func (s stack) has(path string) bool {
	for _, t := range slices.Backward(s) {
		h := t.paths.hash(path)
		if _, ok := t.paths.find(h); ok {
			return true
		}
		if t.paths.hides[h] {
			return false
		}
		hidden := false
		parents(path, func(dir string) bool {
			h := t.paths.hash(dir)
			hidden = t.paths.hides[h] || t.paths.opaque[h]
			return !hidden
		})
		if hidden || t.paths.opaque[t.paths.hash("")] {
			return false
		}
	}
	return false
}

// throughLink reports whether a folder of path is a symbolic link in any layer:
// then path may be another's name, which is nothing to call an error.
func (s stack) throughLink(path string) bool {
	through := false
	parents(path, func(dir string) bool {
		for _, t := range s {
			e, ok := t.paths.find(t.paths.hash(dir))
			through = through || ok && e.sort == symlink
		}
		return !through
	})
	return through
}

// duplicates finds files that are in more than one layer, and notes in known
// where each path comes first.
func (s stack) duplicates(known map[uint64]seat) []Result {
	l := listing{severity: Info, id: "duplicate-file"}
	for i, t := range s {
		var again []spot
		for _, e := range t.paths.spots {
			first, ok := known[e.hash]
			switch {
			case !ok:
				known[e.hash] = seat{tier: i, pos: e.pos, file: e.sort == file}
			case first.tier < i && first.file && e.sort == file && !first.told:
				again = append(again, e)
				first.told = true
				known[e.hash] = first
			}
		}
		slices.SortFunc(again, func(a, b spot) int { return cmp.Compare(a.pos, b.pos) })
		for _, e := range again {
			l.add(func() string {
				return fmt.Sprintf("%s is in layer %d and again in layer %d", t.paths.names.at(e.pos), s[known[e.hash].tier].index, t.index)
			})
		}
	}
	return l.results()
}

// conflicts finds names that differ only by case.
func (s stack) conflicts(known map[uint64]seat) []Result {
	l := listing{severity: Info, id: "case-conflict"}
	type first struct {
		hash uint64
		name func() string
	}
	folded, told := map[uint64]first{}, map[uint64]bool{}
	for _, t := range s {
		for _, c := range t.paths.capitals {
			name := func() string { return t.paths.names.at(c.pos) }
			twin, ok := folded[c.folded]
			if !ok {
				twin = first{c.hash, name}
				folded[c.folded] = twin
			}
			if told[c.hash] {
				continue
			}
			_, lower := known[c.folded]
			switch {
			case lower:
				l.add(func() string { return name() + " and " + strings.ToLower(name()) })
			case twin.hash != c.hash:
				l.add(func() string { return name() + " and " + twin.name() })
			default:
				continue
			}
			told[c.hash] = true
		}
	}
	return l.results()
}
