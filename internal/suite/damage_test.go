package suite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// said are the errors of content that isn't what it should be; usage's is of a place
// that is no such place.
var said = []error{oci.ErrDigestMismatch, oci.ErrInvalid, oci.ErrNotFound, oci.ErrTooLarge, oci.ErrUnsupported, oci.ErrUsage}

func isSaid(err error) bool {
	return slices.ContainsFunc(said, func(s error) bool { return errors.Is(err, s) })
}

// noSuchImage asks for one by a name that isn't there: in a place that isn't there
// either, and in one that has another image.
func noSuchImage(t *testing.T, c *call) {
	images, _ := set(sample(10))
	_, items := set(sample(11))
	for _, place := range []string{"no place", "another image"} {
		if _, err := c.read(t.Context(), t, items[0]); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), c.where(items[0].Ref)) {
			t.Errorf("%s: %v", place, err)
		}
		c.must(t, images)
	}
}

// where is what errors about the image name in the place have to say.
func (c *call) where(name oci.Ref) string {
	if c.path != "" {
		return c.path
	}
	return name.Repository
}

// damagedFiles cuts, changes and removes each file: then the image is what it was
// (padding, say), or it isn't there any more, or there is an error that says which
// file. Never is it another.
func damagedFiles(t *testing.T, c *call) {
	images, items := set(sample(12))
	c.must(t, images)
	want, err := c.read(t.Context(), t, items[0])
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(c.path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, "/.") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		errs := 0
		try := func(what string, body []byte) {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if body != nil {
				if err := os.WriteFile(file, body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := c.read(t.Context(), t, items[0])
			switch {
			case err == nil && !got.equal(want):
				t.Errorf("%s %s: it is %s, was %s", file, what, got, want)
			case err != nil && !isSaid(err):
				t.Errorf("%s %s: of no kind: %v", file, what, err)
			case err != nil && !strings.Contains(err.Error(), c.path):
				t.Errorf("%s %s: doesn't say where: %v", file, what, err)
			case err != nil:
				errs++
			}
		}
		try("missing", nil)
		try("empty", []byte{})
		for _, at := range spots(len(raw)) {
			try("cut", raw[:at])
			body := slices.Clone(raw)
			body[at] ^= 1
			try("changed", body)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if errs < 3 {
			t.Errorf("%s: only %d damages of it are errors", file, errs)
		}
	}
	c.compare(t, images, items[0])
}

// spots are places all over n bytes.
func spots(n int) (at []int) {
	const many = 24
	for i := range many {
		at = append(at, i*n/many)
	}
	return slices.Compact(append(at, n-1))
}

// damagedAnswers is what a server gives that is in trouble.
func damagedAnswers(t *testing.T, c *call) {
	images, items := set(sample(13))
	c.must(t, images)
	want, err := c.read(t.Context(), t, items[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []damage{cut, changed, missing} {
		errs := 0
		for _, at := range []int{1, 300, 5000, 12_000} { // in the first header, in all blobs, in the archive, in the largest blob
			heal := c.hurt(how, at)
			got, err := c.read(t.Context(), t, items[0])
			heal()
			switch {
			case err == nil && got.equal(want):
				continue
			case err == nil:
				t.Errorf("%v at %d: got %s, want %s", how, at, got, want)
			case !strings.Contains(err.Error(), items[0].Ref.Repository):
				t.Errorf("%v at %d: doesn't say what: %v", how, at, err)
			case how == missing && !errors.Is(err, oci.ErrNotFound), how == changed && !isSaid(err):
				t.Errorf("%v at %d: of no kind: %v", how, at, err)
			}
			errs++
			if how == missing {
				break
			}
		}
		if errs == 0 {
			t.Errorf("%v: it is no error", how)
		}
	}
	c.compare(t, images, items[0])
}

// cancelledReading is that a context ends reading, and that nothing is left of it.
func cancelledReading(t *testing.T, c *call) {
	w := newWatch(t)
	images, items := set(sample(14))
	c.must(t, images)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := c.read(ctx, t, items[0]); !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c.compare(t, images, items[0])
	w.nothing(t, c)
}
