package filter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

var inspect = Kind{
	Name:     "inspect",
	Help:     "appends a line of JSON for each image to a file: its layers, their sizes and history",
	Options:  map[string]string{"file": "path of the file, made if there is none"},
	Required: []string{"file"},
	New: func(o Options, env Env) (Filter, error) {
		file, _, err := o.One("file")
		if err != nil {
			return Filter{}, err
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
			return Filter{}, oci.Usage(fmt.Sprintf("inspect: there is no folder for %s", file))
		}
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			return Filter{}, oci.Usage(fmt.Sprintf("inspect: %s is a folder", file))
		}
		return Filter{Observer: &inspector{file: file, after: env.changed}}, nil
	},
}

// An inspector writes down each image. Where it stands in the chain decides what
// it sees: the source's layers, or behind a filter that changes them, the new.
type inspector struct {
	file  string
	after bool
	mu    sync.Mutex // writes are one after another
}

// An inspected is a line of the file.
type inspected struct {
	Layers   []inspectedLayer `json:"layers"` // newest first
	Name     string           `json:"name"`   // without registry
	Platform string           `json:"platform,omitempty"`
}

type inspectedLayer struct {
	Comment   string
	Created   int64 // seconds since 1970, 0 if unknown
	CreatedBy string
	ID        string   `json:"Id"`
	Size      int64    // bytes of tar
	Tags      []string // of the newest layer
}

// Observe appends the line of an image.
func (x *inspector) Observe(_ context.Context, o Outcome) error {
	history, err := steps(o.Image)
	if err != nil {
		return oci.Wrap(err, "inspect", o.Image.Ref.String(), oci.Descriptor{})
	}
	line := inspected{Name: nameOf(o.Image.Ref), Layers: []inspectedLayer{}}
	if o.Child {
		line.Platform = platformText(o.Image.Platform)
	}
	for i := len(o.Layers) - 1; i >= 0; i-- {
		l := inspectedLayer{ID: string(o.Layers[i].Before.Digest), Size: max(0, o.Layers[i].Before.Size)}
		if x.after && o.Layers[i].After != o.Layers[i].Before {
			l.ID, l.Size = string(o.Layers[i].After.DiffID), max(0, o.Layers[i].After.Size)
		}
		if i < len(history) {
			l.Comment, l.CreatedBy = history[i].Comment, history[i].CreatedBy
			if t, err := time.Parse(time.RFC3339, history[i].Created); err == nil {
				l.Created = t.Unix()
			}
		}
		line.Layers = append(line.Layers, l)
	}
	if len(line.Layers) > 0 {
		line.Layers[0].Tags = []string{line.Name}
	}
	return x.append(append(spaced(jsonedit.Marshal(line)), '\n'))
}

// append writes line at the end of the file, in one piece: other processes may
// do the same.
func (x *inspector) append(line []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := os.OpenFile(x.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// A step is an entry of the config's history.
type step struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
	Comment   string `json:"comment"`
	Empty     bool   `json:"empty_layer"`
}

// steps gives the entries of img's history that made a layer, lowest first.
func steps(img *oci.Image) ([]step, error) {
	raw, ok := img.Config["history"]
	if !ok {
		return nil, nil
	}
	var all []step
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("history: %w: %w", oci.ErrInvalid, err)
	}
	return slices.DeleteFunc(all, func(s step) bool { return s.Empty }), nil
}

func platformText(p oci.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// spaced gives raw, compact JSON, as Python writes it: a space behind commas and
// colons, and nothing but ASCII.
func spaced(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+len(raw)/8)
	text := false
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRune(raw[i:])
		switch {
		case text && r == '\\':
			size = 2
			fallthrough
		case r < 0x7f:
			out = append(out, raw[i:i+size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		if r == '"' {
			text = !text
		}
		if !text && (r == ',' || r == ':') {
			out = append(out, ' ')
		}
		i += size
	}
	return out
}
