package blobcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

const host = "quay.example:8443"

func blob(s string) oci.Descriptor {
	return oci.Descriptor{Digest: digest.FromString(s), Size: MinSize}
}

func openCache(t *testing.T, path, host string) *Cache {
	t.Helper()
	c, err := Open(path, host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func save(t *testing.T, c *Cache) {
	t.Helper()
	if err := c.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantAt(t *testing.T, c *Cache, s string, want ...string) {
	t.Helper()
	if got := c.Repositories(blob(s).Digest); !slices.Equal(got, want) {
		t.Errorf("%s is at %q, want %q", s, got, want)
	}
}

func TestWhatARunFoundTheNextKnows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blobs")
	c := openCache(t, path, host)
	for _, f := range [][2]string{{"base", "a/x"}, {"base", "a/y"}, {"base", "a/x"}, {"base", "a/z"}, {"own", "a/y"}} {
		c.Found(blob(f[0]), f[1])
	}
	small, long := blob("small"), blob("long")
	small.Size = MinSize - 1
	long.Digest = digest.SHA512.FromString("long")
	for _, d := range []oci.Descriptor{small, long} {
		c.Found(d, "a/x")
	}
	c.Found(blob("nowhere"), "a x")
	for _, c := range []*Cache{c, nil} { // before it is saved, and after
		if c == nil {
			c = openCache(t, path, host)
		}
		wantAt(t, c, "base", "a/y", "a/x")
		wantAt(t, c, "own", "a/y")
		wantAt(t, c, "small")
		wantAt(t, c, "nowhere")
		if got := c.Repositories(long.Digest); len(got) != 0 {
			t.Errorf("sha512: got %q", got)
		}
		save(t, c)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%s %d %s a/y a/x\n", blob("base").Digest, day(time.Now()), host)
	if !strings.HasPrefix(string(raw), title+"\n") || !strings.Contains(string(raw), line) || strings.Count(string(raw), "\n") != 3 {
		t.Errorf("the file says\n%s", raw)
	}
}

func TestWhatWasMissedIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blobs")
	c := openCache(t, path, host)
	for _, f := range [][2]string{{"first", "a/x"}, {"first", "a/y"}, {"second", "a/x"}, {"second", "a/y"}, {"all", "a/x"}} {
		c.Found(blob(f[0]), f[1])
	}
	save(t, c)
	c = openCache(t, path, host)
	c.Missed(blob("first").Digest, "a/x")
	c.Missed(blob("second").Digest, "a/y")
	c.Missed(blob("second").Digest, "a/other")
	c.Missed(blob("all").Digest, "a/x")
	c.Missed(blob("unknown").Digest, "a/x")
	save(t, c)
	c = openCache(t, path, host)
	wantAt(t, c, "first", "a/y")
	wantAt(t, c, "second", "a/x")
	wantAt(t, c, "all")
	c.Found(blob("second"), "a/z")
	wantAt(t, c, "second", "a/z", "a/x")
	if raw, err := os.ReadFile(path); err != nil || strings.Count(string(raw), "\n") != 3 {
		t.Errorf("the file says\n%s%v", raw, err)
	}
}

func TestRegistriesStayApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blobs")
	for i, host := range []string{"one.example", "two.example"} {
		c := openCache(t, path, host)
		wantAt(t, c, "base")
		c.Found(blob("base"), fmt.Sprintf("a/x%d", i))
		save(t, c)
	}
	wantAt(t, openCache(t, path, "one.example"), "base", "a/x0")
	wantAt(t, openCache(t, path, "two.example"), "base", "a/x1")
	wantAt(t, openCache(t, path, "three.example"), "base")
}

// Nobody's blobs are lost, and a run that finds nothing new writes nothing.
func TestSeveralAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blobs")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			c, err := Open(path, host)
			if err != nil {
				t.Error(err)
				return
			}
			c.Found(blob(fmt.Sprint(i)), "a/x")
			if err := c.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := openCache(t, path, host)
	for i := range 16 {
		wantAt(t, c, fmt.Sprint(i), "a/x")
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Found(blob("3"), "a/x")
	c.Missed(blob("4").Digest, "a/y")
	save(t, c)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written for nothing: %v", err)
	}
	c.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	c.Found(blob("3"), "a/x")
	save(t, c)
	if after, err := os.Stat(path); err != nil || os.SameFile(before, after) {
		t.Errorf("the use of an old entry isn't noted: %v", err)
	}
}

func TestOldestGoFirst(t *testing.T) {
	all := newTable()
	c := &Cache{file: newTable(), changed: map[key]places{}}
	for i := range 10 {
		c.changed = map[key]places{}
		c.Found(blob(fmt.Sprint(i)), "a/x")
		all.merge(host, c.file.names, c.changed, uint32(100-i))
	}
	all.trim(4)
	for i := range 10 {
		k, _ := keyOf(blob(fmt.Sprint(i)).Digest)
		if got, want := all.find(k) != nil, i < 4; got != want {
			t.Errorf("blob %d, used on day %d: kept %v, want %v", i, 100-i, got, want)
		}
	}
}

func TestWhatIsNoCacheStays(t *testing.T) {
	good := string(blob("x").Digest) + " 20000 " + host + " a/x a/y\n"
	for name, raw := range map[string]string{
		"another version": "quaymaster blob cache 2\n" + good,
		"no title":        good,
		"text":            "hello\n",
		"JSON":            "{}",
		"no digest":       title + "\nsha256:12 20000 " + host + " a/x\n",
		"no day":          title + "\n" + strings.Replace(good, "20000", "-1", 1),
		"no repository":   title + "\n" + strings.Replace(good, "a/x", "../x", 1),
		"cut off":         title + "\n" + good + good[:90],
		"an endless line": title + "\n" + strings.Repeat("x", 1<<20),
		"another's line":  title + "\n" + good + strings.Replace(good, host, "x/y", 1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blobs")
			if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Open(path, host)
			if err == nil && name == "another's line" {
				c.Found(blob("new"), "a/x")
				err = c.Save(t.Context())
			}
			if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want invalid", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != raw {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "blobs")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openCache(t, path, host)
}

func TestSaveWaitsForTheLockAsLongAsItMay(t *testing.T) {
	c := openCache(t, filepath.Join(t.TempDir(), "none", "blobs"), host)
	c.Found(blob("a"), "a/x")
	if err := c.Save(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	c = openCache(t, filepath.Join(t.TempDir(), "blobs"), host)
	c.Found(blob("a"), "a/x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Save(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	save(t, c) // what couldn't be saved isn't lost
	wantAt(t, openCache(t, c.path, host), "a", "a/x")
}

func FuzzRead(f *testing.F) {
	f.Add(title + "\n" + string(blob("x").Digest) + " 20000 " + host + " a/x a/y\n")
	f.Add(title + "\n" + string(blob("x").Digest) + " 1 h a a\n\n")
	f.Add(title + "\n" + string(blob("x").Digest) + " 0")
	f.Fuzz(func(t *testing.T, raw string) {
		all := newTable()
		if all.read(strings.NewReader(raw), "") != nil {
			return
		}
		all.trim(maxEntries)
		var one, two strings.Builder
		if err := all.write(&one); err != nil {
			t.Fatal(err)
		}
		again := newTable()
		if err := again.read(strings.NewReader(one.String()), ""); err != nil {
			t.Fatal(err)
		}
		again.trim(maxEntries)
		if err := again.write(&two); err != nil || one.String() != two.String() {
			t.Errorf("%q became %q, %v", one.String(), two.String(), err)
		}
	})
}
