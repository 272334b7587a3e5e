package filter_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

func TestMatcher(t *testing.T) {
	tests := []struct {
		pattern string
		regex   bool
		yes, no []string
	}{
		{"etc/passwd", false, []string{"etc/passwd", "./etc/passwd", "/etc/passwd"}, []string{"x/etc/passwd", "etc/passwd-"}},
		{"passwd", false, []string{"etc/passwd", "passwd", "passwd/"}, []string{"passwd/x"}},
		{"*.py", false, []string{"a.py", "x/y/a.py", ".py"}, []string{"a.pyc"}},
		{"etc/*", false, []string{"etc/a", "etc/a/b"}, []string{"x/etc/a", "etc"}},
		{"/etc/*", false, []string{"etc/a", "./etc/a"}, []string{"x/etc/a"}},
		{"**/bin/*", false, []string{"usr/bin/ls", "bin/ls"}, []string{"sbin/ls"}},
		{"./a", false, []string{"./a"}, []string{"a"}},
		{"[ab]?", false, []string{"x/a1", "b1"}, []string{"c1"}},
		{"^etc/", true, []string{"etc/a", "./etc/a"}, []string{"x/etc/a"}},
		{"pass", true, []string{"etc/passwd", "pass/x"}, []string{"PASS"}},
		{"(?i)pass", true, []string{"PASS"}, nil},
		{`^\./`, true, []string{"./a"}, []string{"a"}},
	}
	for _, tt := range tests {
		m, err := filter.NewMatcher(tt.pattern, tt.regex)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range tt.yes {
			if !m.Match(name) {
				t.Errorf("%q doesn't match %q", tt.pattern, name)
			}
		}
		for _, name := range tt.no {
			if m.Match(name) {
				t.Errorf("%q matches %q", tt.pattern, name)
			}
		}
	}
	for _, pattern := range []string{"", "("} {
		if _, err := filter.NewMatcher(pattern, true); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q: got %v", pattern, err)
		}
	}
}

func outcome(t *testing.T, ref string, layers ...oci.Digest) filter.Outcome {
	t.Helper()
	r, err := oci.ParseRef(ref, "")
	if err != nil {
		t.Fatal(err)
	}
	o := filter.Outcome{Image: &oci.Image{Ref: r}}
	for _, d := range layers {
		s := filter.State{Digest: d, DiffID: d, Size: 10}
		o.Layers = append(o.Layers, filter.Layer{Before: s, After: s})
	}
	return o
}

func TestSearchText(t *testing.T) {
	one, two := digest.FromString("1"), digest.FromString("2")
	run := func(spec string) string {
		var text strings.Builder
		c, err := filter.ParseAll([]string{spec}, filter.Env{Found: func(f filter.Findings) error {
			text.WriteString(f.Text())
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		pass(t, c.Entries, one,
			&tar.Header{Name: "./a/", Typeflag: tar.TypeDir},
			&tar.Header{Name: "a/f", Typeflag: tar.TypeReg, Size: 123},
			&tar.Header{Name: "a/s", Typeflag: tar.TypeSymlink, Linkname: "../t"},
			&tar.Header{Name: "a/h", Typeflag: tar.TypeLink, Linkname: "a/f", Size: 123},
			&tar.Header{Name: "a/c", Typeflag: tar.TypeChar}, &tar.Header{Name: "a/b", Typeflag: tar.TypeBlock},
			&tar.Header{Name: "a/p", Typeflag: tar.TypeFifo}, &tar.Header{Name: "a/?", Typeflag: 'Z'},
			&tar.Header{Name: "a/x\n\x1b[2J\xff\u202eé", Typeflag: tar.TypeReg})
		pass(t, c.Entries, two, &tar.Header{Name: "f", Typeflag: tar.TypeReg})
		if err := c.Observe(t.Context(), outcome(t, "quay.io/o/r:v1", one, two)); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	tests := []struct{ name, spec, want string }{
		{"every kind of entry", "search:pattern=a*", `Layer: ` + one.Encoded() + `
  ./a (directory)
  a/f (file, 123 bytes)
  a/s -> ../t (symlink)
  a/h -> a/f (hardlink)
  a/c (character device)
  a/b (block device)
  a/p (fifo)
  a/? (unknown)
  a/x\x0a\x1b[2J\xff\xe2\x80\xaeé (file, 0 bytes)

Found 9 matches in 1 layer.
`},
		{"two layers, in their order", "search:pattern=f", "Layer: " + one.Encoded() + "\n  a/f (file, 123 bytes)\n\nLayer: " +
			two.Encoded() + "\n  f (file, 0 bytes)\n\nFound 2 matches in 2 layers.\n"},
		{"one match", "search:pattern=^f,regex=true", "Layer: " + two.Encoded() + "\n  f (file, 0 bytes)\n\nFound 1 match in 1 layer.\n"},
		{"none", "search:pattern=nope", "No matches found.\n"},
		{"script-friendly", "search:pattern=f,script_friendly=true", "o/r:v1:" + one.Encoded() + ":a/f\no/r:v1:" + two.Encoded() + ":f\n"},
		{"script-friendly, none", "search:pattern=nope,script-friendly=true", ""},
	}
	for _, tt := range tests {
		if got := run(tt.spec); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// TestSearchCountsPassesThatSucceed: a pass that failed says nothing, one that
// was made twice counts once, and a layer that nobody read is no empty layer.
func TestSearchCountsPassesThatSucceed(t *testing.T) {
	var found []filter.Findings
	c, err := filter.ParseAll([]string{"search:pattern=*"}, filter.Env{Found: func(f filter.Findings) error {
		found = append(found, f)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("1")
	s := c.Entries[0].Wrap(oci.Descriptor{Digest: d}, &collector{closed: errors.New("broken")})
	if err := errors.Join(s.Put(&oci.Entry{Header: named("a")[0]}), s.Close()); err == nil {
		t.Fatal("Close succeeded")
	}
	if err := c.Observe(t.Context(), outcome(t, "quay.io/o/r:v1", d)); !errors.Is(err, oci.ErrIncomplete) || len(found) > 0 {
		t.Errorf("a layer that wasn't read: got %v, %v", found, err)
	}
	for range 2 {
		pass(t, c.Entries, d, named("a", "b")...)
	}
	if err := c.Observe(t.Context(), outcome(t, "quay.io/o/r:v1", d)); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || len(found[0].Layers) != 1 || len(found[0].Layers[0].Matches) != 2 {
		t.Errorf("got %+v", found)
	}
}

func TestSearchTellsFailures(t *testing.T) {
	broken := errors.New("broken pipe")
	c, err := filter.ParseAll([]string{"search:pattern=*"}, filter.Env{Found: func(filter.Findings) error { return broken }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Observe(t.Context(), outcome(t, "quay.io/o/r:v1")); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestSearchInParallel runs two searches over images that share layers; the race
// detector looks on, and calls of Found don't overlap.
func TestSearchInParallel(t *testing.T) {
	lines := 0 // without a lock
	c, err := filter.ParseAll([]string{"search:pattern=*", "search:pattern=f*"}, filter.Env{Found: func(f filter.Findings) error {
		lines += strings.Count(f.Text(), "(file")
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			shared, own := digest.FromString("shared"), digest.FromString(fmt.Sprint(i))
			for _, d := range []oci.Digest{shared, own} {
				pass(t, c.Entries, d, named("f", "g")...)
			}
			if err := c.Observe(context.Background(), outcome(t, fmt.Sprintf("quay.io/o/r:v%d", i), shared, own)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if want := 8 * 2 * (2 + 1); lines != want {
		t.Errorf("got %d lines, want %d", lines, want)
	}
}
