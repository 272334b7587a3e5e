package filetree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// blobs are a source of blobs alone.
type blobs map[oci.Digest][]byte

func (b blobs) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.ErrNotFound
}

func (b blobs) Head(context.Context, string) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.ErrNotFound
}

func (b blobs) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	raw, ok := b[d.Digest]
	if !ok {
		return nil, oci.ErrNotFound
	}
	return oci.Verify(io.NopCloser(bytes.NewReader(raw)), d), nil
}

// names walks l and gives the names of its entries.
func names(l imagetest.Layer) ([]string, error) {
	var got []string
	_, err := filetree.Walk(context.Background(), blobs{l.Desc.Digest: l.Bytes}, l.Desc, layer.Options{}, func(e *oci.Entry) error {
		got = append(got, e.Header.Name)
		return nil
	})
	return got, err
}

func TestWalk(t *testing.T) {
	global := imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}}
	l := imagetest.Entries(global, imagetest.Dir("a/"), imagetest.File("a/b", "text"), imagetest.Symlink("c", "a/b"))
	got, err := names(l)
	if want := []string{"a/", "a/b", "c"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := names(imagetest.Entries()); err != nil || got != nil {
		t.Errorf("an empty layer: got %q, %v", got, err)
	}
}

// A blob with the right digest may still be an archive that was cut off.
func TestWalkRefusesTruncatedArchives(t *testing.T) {
	raw := imagetest.Tar(imagetest.File("a", strings.Repeat("x", 700)), imagetest.File("zeros", strings.Repeat("\x00", 2048)),
		imagetest.Entry{Header: tar.Header{Name: strings.Repeat("long/", 60) + "é"}, Body: strings.Repeat("\x00", 1024)})
	end := len(raw) - 1024
	for n := 128; n < end; n += 256 {
		if n == 1408 {
			continue // behind a: nothing of it is missing
		}
		if _, err := names(imagetest.Gzip(raw[:n])); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("cut at %d of %d: got %v, want invalid", n, len(raw), err)
		}
	}
	if _, err := names(imagetest.Gzip(raw)); err != nil {
		t.Errorf("whole: %v", err)
	}
}

func TestWalkRefuses(t *testing.T) {
	good := imagetest.Entries(imagetest.File("a", "text"))
	other := imagetest.Entries(imagetest.File("b", "text"))
	swapped := good
	swapped.Bytes = other.Bytes
	tests := []struct {
		name string
		l    imagetest.Layer
		want error
	}{
		{"no tar", imagetest.Gzip(bytes.Repeat([]byte("no tar "), 200)), oci.ErrInvalid},
		{"cut gzip", imagetest.Blob(good.Desc.MediaType, good.Bytes[:len(good.Bytes)-9]), oci.ErrInvalid},
		{"other bytes", swapped, oci.ErrDigestMismatch},
		{"a name without end", imagetest.Entries(imagetest.File(strings.Repeat("long/", 2000)+"x", "")), oci.ErrTooLarge},
	}
	for _, tt := range tests {
		if _, err := names(tt.l); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	_, err := names(imagetest.Layer{Desc: good.Desc})
	if !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("an empty blob: %v", err)
	}
}

func TestMarkOf(t *testing.T) {
	tests := []struct {
		path  string
		mark  filetree.Mark
		about string
	}{
		{"a/b", filetree.MarkNone, "a/b"},
		{"a/.wh.b", filetree.MarkWhiteout, "a/b"},
		{".wh.b", filetree.MarkWhiteout, "b"},
		{"a/.wh..wh..opq", filetree.MarkOpaque, "a"},
		{".wh..wh..opq", filetree.MarkOpaque, ""},
		{"a/.wh..wh.plnk", filetree.MarkOther, "a/.wh..wh.plnk"},
		{"a/.wh.", filetree.MarkOther, "a/.wh."},
		{"a/.wh...", filetree.MarkOther, "a/.wh..."},
		{"a/.wh.b/c", filetree.MarkNone, "a/.wh.b/c"},
	}
	for _, tt := range tests {
		if mark, about := filetree.MarkOf(tt.path); mark != tt.mark || about != tt.about {
			t.Errorf("%s: got %d of %q, want %d of %q", tt.path, mark, about, tt.mark, tt.about)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"./a/b/": "a/b", "/a//b": "a/b", "../../a": "a", "./": "", "/": "", "a/../..": ""} {
		if got := filetree.Clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := slices.Collect(filetree.Parents("a/b/c")); !slices.Equal(got, []string{"a/b", "a", ""}) {
		t.Errorf("parents: %q", got)
	}
	if got := slices.Collect(filetree.Parents("")); got != nil {
		t.Errorf("parents of the root: %q", got)
	}
}

func TestOnce(t *testing.T) {
	var o filetree.Once[string, int]
	calls := 0
	get := func(v int, err error) func() (int, error) {
		return func() (int, error) { calls++; return v, err }
	}
	ctx := t.Context()
	damaged := fmt.Errorf("layer: %w", oci.ErrInvalid)
	for range 2 {
		if _, err := o.Get(ctx, "damaged", get(0, damaged)); !errors.Is(err, damaged) {
			t.Errorf("got %v, want %v", err, damaged)
		}
	}
	if calls != 1 {
		t.Errorf("damaged content was read %d times", calls)
	}
	if _, err := o.Get(ctx, "a", get(0, oci.ErrDenied)); !errors.Is(err, oci.ErrDenied) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if v, err := o.Get(ctx, "a", get(7, nil)); v != 7 || err != nil {
			t.Errorf("after a refusal: got %d, %v", v, err)
		}
	}
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
	ended, cancel := context.WithCancelCause(ctx)
	cancel(damaged) // of other content
	if _, err := o.Get(ended, "b", func() (int, error) { return 0, context.Cause(ended) }); !errors.Is(err, damaged) {
		t.Errorf("ended: got %v", err)
	}
	if v, err := o.Get(ctx, "b", get(8, nil)); v != 8 || err != nil {
		t.Errorf("after a run that ended: got %d, %v", v, err)
	}
}
