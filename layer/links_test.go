package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

func rename(pairs ...string) filter {
	r := strings.NewReplacer(pairs...)
	return edit(func(h *tar.Header) { h.Name = r.Replace(h.Name) })
}

func TestHardLinks(t *testing.T) {
	tests := []struct {
		name     string
		in       []file
		filters  []oci.EntryFilter
		want     string
		restarts int
	}{
		{
			"the file is dropped", []file{reg("a", "body"), reg("b", "other"), link("c", "a"), link("d", "a")},
			[]oci.EntryFilter{drop("a")}, "c: body\nb: other\nd => c\n", 1,
		},
		{
			"several files are dropped", []file{reg("a", "A"), reg("b", "B"), link("c", "b"), link("d", "a"), link("e", "b"), reg("f", "F"), link("g", "f")},
			[]oci.EntryFilter{drop("a", "b")}, "d: A\nc: B\ne => c\nf: F\ng => f\n", 1,
		},
		{
			"nobody needs what is dropped", []file{reg("a", "A"), link("b", "a"), reg("c", "C")},
			[]oci.EntryFilter{drop("a", "b")}, "c: C\n", 0,
		},
		{
			"a link is dropped", []file{reg("a", "A"), link("b", "a"), link("c", "a")},
			[]oci.EntryFilter{drop("b")}, "a: A\nc => a\n", 0,
		},
		{
			"a link to a dropped link", []file{reg("a", "A"), link("b", "a"), link("c", "b"), link("d", "c")},
			[]oci.EntryFilter{drop("b")}, "a: A\nc => a\nd => c\n", 0,
		},
		{
			"a chain whose file and first link are dropped", []file{reg("a", "A"), link("b", "a"), link("c", "b"), link("d", "c"), link("e", "b")},
			[]oci.EntryFilter{drop("a", "b")}, "c: A\nd => c\ne => c\n", 1,
		},
		{
			"names with dots and slashes", []file{dir("./"), reg("./x/a", "A"), link("./x/c", "x/a"), link("/x/d", "./x/a")},
			[]oci.EntryFilter{drop("x/a")}, "./\n./x/c: A\n/x/d => ./x/c\n", 1,
		},
		{
			"an empty file", []file{reg("a", ""), link("b", "a")},
			[]oci.EntryFilter{drop("a")}, "b\n", 1,
		},
		{
			"a link to a symlink that is dropped", []file{{tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "there"}, ""}, link("b", "a")},
			[]oci.EntryFilter{drop("a")}, "b -> there\n", 1,
		},
		{
			"renamed", []file{reg("a", "A"), link("b", "a")},
			[]oci.EntryFilter{rename("a", "x")}, "x: A\nb => x\n", 0,
		},
		{
			"renamed, and the link by the filter too", []file{reg("a", "A"), reg("b", "B"), link("c", "a")},
			[]oci.EntryFilter{edit(func(h *tar.Header) {
				swap := strings.NewReplacer("a", "b", "b", "a")
				h.Name, h.Linkname = swap.Replace(h.Name), swap.Replace(h.Linkname)
			})}, "b: A\na: B\nc => b\n", 0,
		},
		{
			"dropped, and the link renamed", []file{reg("a", "A"), link("b", "a"), link("c", "a")},
			[]oci.EntryFilter{drop("a"), rename("b", "x")}, "x: A\nc => x\n", 1,
		},
		{
			"dropped for its type, again and again", []file{reg("a", "A"), link("b", "a"), link("c", "a")},
			[]oci.EntryFilter{filter{put: func(e *oci.Entry, next oci.Sink) error {
				if e.Header.Size > 0 && e.Header.Name != "c" {
					return nil
				}
				return next.Put(e)
			}}}, "c: A\n", 2,
		},
		{
			"to a lower layer", []file{link("b", "a"), reg("c", "C")},
			[]oci.EntryFilter{drop("x")}, "b => a\nc: C\n", 0,
		},
		{
			"the same path twice, dropped once", []file{reg("a", "first"), reg("a", "second"), link("b", "a")},
			[]oci.EntryFilter{filter{put: func(e *oci.Entry, next oci.Sink) error {
				if e.Header.Size == int64(len("first")) {
					return nil
				}
				return next.Put(e)
			}}}, "a: second\nb => a\n", 0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			blob := gz(t, pack(t, tt.in...))
			got, raw, p, err := run(t, blob, layer.PassOptions{}, tt.filters...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Unchanged != (tt.want == listing(tt.in)) || p.Restarts() != tt.restarts {
				t.Errorf("unchanged %v, %d restarts, want %d", got.Unchanged, p.Restarts(), tt.restarts)
			}
			if files := listing(unpack(t, raw)); files != tt.want {
				t.Errorf("got\n%swant\n%s", files, tt.want)
			}
			// Storing it may fail: another run gives the same bytes.
			again, err := p.Run(t.Context(), io.Discard, bytes.NewReader(blob))
			if err != nil || again.Desc.Digest != got.Desc.Digest {
				t.Errorf("one more run: %+v, %v, want %+v", again, err, got)
			}
		})
	}
}

// TestAMovedBodyIsFiltered: what takes the place of a link has been through the
// whole chain, and has the metadata of the file.
func TestAMovedBodyIsFiltered(t *testing.T) {
	a := reg("a", "A")
	a.h.Mode, a.h.Uid = 0o4755, 5
	a.h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"}
	_, raw, _, err := run(t, pack(t, a, link("b", "a")), layer.PassOptions{}, drop("a"), edit(func(h *tar.Header) { h.Gid = 9 }))
	if err != nil {
		t.Fatal(err)
	}
	h := unpack(t, raw)[0].h
	if h.Name != "b" || h.Mode != 0o4755 || h.Uid != 5 || h.Gid != 9 || h.PAXRecords["SCHILY.xattr.user.x"] != "1" {
		t.Errorf("got %+v", h)
	}
}

func TestDanglingLinks(t *testing.T) {
	adder := filter{end: func(next oci.Sink) error {
		return next.Put(&oci.Entry{Header: &tar.Header{Typeflag: tar.TypeLink, Name: "new", Linkname: "a"}})
	}}
	for name, tt := range map[string]struct {
		in      []file
		filters []oci.EntryFilter
	}{
		"dropped in a lower layer": {[]file{link("new", "./a")}, []oci.EntryFilter{drop("a")}},
		"added by a filter":        {[]file{reg("a", "A")}, []oci.EntryFilter{drop("a"), adder}},
	} {
		got, _, _, err := run(t, gz(t, pack(t, tt.in...)), layer.PassOptions{}, tt.filters...)
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), `"new"`) || !strings.Contains(err.Error(), `a"`) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// TestNoEffectsOfARunThatIsGivenUp: sinks are closed by the run that counts.
func TestNoEffectsOfARunThatIsGivenUp(t *testing.T) {
	closed := 0
	counts := filter{end: func(oci.Sink) error { closed++; return nil }}
	blob := gz(t, pack(t, reg("a", "A"), link("b", "a")))
	p := layer.NewPass(descriptor(blob), []oci.EntryFilter{drop("a"), counts}, layer.PassOptions{})
	var out bytes.Buffer
	if _, err := p.Run(t.Context(), &out, bytes.NewReader(blob)); !errors.Is(err, layer.ErrAgain) || closed != 0 || p.Restarts() != 1 {
		t.Errorf("got %v, %d closed, %d restarts", err, closed, p.Restarts())
	}
	if _, err := p.Run(t.Context(), &out, bytes.NewReader(blob)); err != nil || closed != 1 {
		t.Errorf("got %v, %d closed", err, closed)
	}
}
