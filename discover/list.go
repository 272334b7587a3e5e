package discover

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

var listKind = backend.Kind{
	Scheme: "list",
	Help:   "the references in a file, one a line, or those of a report that are not done: list://FILE",
	Options: withReading(map[string]string{
		"registry": "host[:port] of references that name none",
	}),
	Source: func(_ context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
		refs, err := readList(u)
		if err != nil {
			return nil, err
		}
		return &listImages{opened{env}, refs}, nil
	},
}

// maxList bounds the bytes of a list, maxLine those of one line of it.
const (
	maxList = 256 << 20
	maxLine = 64 << 10
)

// listImages are the references of a file, in its order. They may be 100,000,
// and an [oci.Item] is several times as large.
type listImages struct {
	opened
	refs []oci.Ref
}

// Discover gives the references of the file.
func (l *listImages) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		for _, ref := range l.refs {
			if err := ctx.Err(); err != nil {
				yield(oci.Item{}, incomplete(err))
				return
			}
			item := oci.Item{Ref: ref, Desc: oci.Descriptor{Digest: ref.Digest}, Bytes: -1}
			item.Ref.Digest = ""
			if !yield(item, nil) {
				return
			}
		}
	}
}

// Listing is complete from the start.
func (l *listImages) Listing() oci.Listing {
	repos := map[[2]string]bool{}
	for _, ref := range l.refs {
		repos[[2]string{ref.Registry, ref.Repository}] = true
	}
	return oci.Listing{Found: len(l.refs), Done: true, Repositories: len(repos)}
}

// readList reads the file of u. Errors match [oci.ErrUsage] and name file and line.
func readList(u backend.URI) ([]oci.Ref, error) {
	registry := u.Option("registry")
	if registry != "" && !oci.ValidHost(registry) {
		return nil, oci.Usage(fmt.Sprintf("%s: %q is no host; write registry=quay.example.com or with a port registry=quay.example.com:8443", u, registry))
	}
	if u.Rest == "" {
		return nil, oci.Usage(fmt.Sprintf("%s: list:// needs a file", u))
	}
	raw, err := readFile(u.Rest)
	if err != nil {
		return nil, oci.Usage(fmt.Sprintf("list %v", err))
	}
	l := reading{file: u.Rest, registry: registry, seed: maphash.MakeSeed(), seen: map[uint64]int{}}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		err = l.report(raw)
	} else {
		err = l.lines(raw)
	}
	return l.refs, err
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("%s: %w", name, pe.Err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: it is a folder; name a file", name)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err == nil && len(raw) > maxList {
		err = fmt.Errorf("%s: %w: over %d bytes", name, oci.ErrTooLarge, maxList)
	}
	return bytes.TrimPrefix(raw, []byte("\ufeff")), err
}

// A reading collects the references of a file.
type reading struct {
	file     string
	registry string
	refs     []oci.Ref
	seed     maphash.Seed
	seen     map[uint64]int // where in refs a hash stands, the last of that hash
}

// lines reads a reference a line. Empty lines, and what comes behind a #, are
// left out.
func (l *reading) lines(raw []byte) error {
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, maxLine)
	n := 0
	for sc.Scan() {
		n++
		text, _, _ := strings.Cut(sc.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := l.add(text); err != nil {
			return oci.Usage(fmt.Sprintf("%s:%d: %v", l.file, n, err))
		}
	}
	if sc.Err() != nil { // memory is read, so there is one reason
		return oci.Usage(fmt.Sprintf("%s:%d: a line over %d bytes; write a reference a line", l.file, n+1, maxLine))
	}
	return nil
}

// report reads the images of a report that a further run has to take up again.
func (l *reading) report(raw []byte) error {
	var r oci.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		line := 1
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			line += bytes.Count(raw[:min(int(se.Offset), len(raw))], []byte("\n"))
		}
		return oci.Usage(fmt.Sprintf("%s:%d: it begins like a report and is none: %v", l.file, line, err))
	}
	if r.Images == nil {
		return oci.Usage(fmt.Sprintf("%s: it begins like a report and has no images", l.file))
	}
	for i, image := range r.Images {
		if !image.Undone() {
			continue
		}
		if err := l.add(image.Reference); err != nil {
			return oci.Usage(fmt.Sprintf("%s: image %d: %v", l.file, i+1, err))
		}
	}
	return nil
}

// add takes a reference, unless it is there already. One with neither tag nor
// digest means latest.
func (l *reading) add(text string) error {
	if strings.Contains(text, "://") {
		return fmt.Errorf("%q is a URI; write a reference, host/repository:tag", text)
	}
	ref, err := oci.ParseRef(text, l.registry)
	if err != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	hash := maphash.Comparable(l.seed, ref)
	if i, ok := l.seen[hash]; ok && l.refs[i] == ref {
		return nil
	}
	l.seen[hash] = len(l.refs)
	l.refs = append(l.refs, ref)
	return nil
}
