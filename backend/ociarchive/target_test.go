package ociarchive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ociarchive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// Whatever the order, how many come at once and whether sizes are known: the
// bytes are the same.
func TestSameImagesMakeTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a.tar", all)

	target := openTarget(t, "oci-archive://"+dir+"/b.tar")
	var wg sync.WaitGroup
	for name, img := range all {
		wg.Go(func() {
			if err := put(t.Context(), target, name, img); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := target.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}

	target = openTarget(t, "oci-archive://"+dir+"/c.tar")
	names := slices.Sorted(maps.Keys(all))
	slices.Reverse(names)
	for _, name := range names {
		ref, err := oci.ParseRef(name, "")
		if err != nil {
			t.Fatal(err)
		}
		dst, err := target.Image(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all[name].Blobs { // made on the way: nothing is known of them
			if _, err := dst.PutBlob(t.Context(), blobOf(oci.Descriptor{Size: -1}, b)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(putAll(t.Context(), dst, all[name]), dst.Commit(t.Context(), all[name].Desc, all[name].Desc)); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, other := range []string{"/b.tar", "/c.tar"} {
		if !bytes.Equal(read(t, dir+"/a.tar"), read(t, dir+other)) {
			t.Errorf("%s differs", other)
		}
	}
}

// members gives the names in the archive at path, in order.
func members(t *testing.T, path string) []string {
	t.Helper()
	var names []string
	tr := tar.NewReader(bytes.NewReader(read(t, path)))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestAddsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	save(t, path, map[string]imagetest.Image{"quay.io/a/b:1": first, "quay.io/a/b:2": multi})
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	// A second run finds it all, and leaves the file alone.
	target := openTarget(t, "oci-archive://"+path)
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "quay.io", Repository: "a/b", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != first.Desc.Digest {
		t.Errorf("head: %+v, %v", d, err)
	}
	if err := target.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	save(t, path, map[string]imagetest.Image{"quay.io/a/b:1": first}) // put all the same
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written anew: %v", err)
	}

	// Another image: shared blobs are there, what was there stays.
	target = openTarget(t, "oci-archive://"+path)
	if dst, err = target.Image(t.Context(), oci.Ref{Registry: "quay.io", Repository: "c/d", Tag: "3"}); err != nil {
		t.Fatal(err)
	}
	if ok, err := dst.Has(t.Context(), oci.Descriptor{Digest: base.Desc.Digest, Size: base.Desc.Size}); !ok || err != nil {
		t.Errorf("has the shared layer: %v, %v", ok, err)
	}
	if err := errors.Join(putAll(t.Context(), dst, other), dst.Commit(t.Context(), other.Desc, other.Desc), dst.Verify(t.Context(), other.Desc, true), target.Finish(t.Context())); err != nil {
		t.Fatal(err)
	}
	src := openSource(t, "oci-archive://"+path, nil)
	for name, img := range map[string]imagetest.Image{"quay.io/a/b:1": first, "quay.io/a/b:2": multi, "quay.io/c/d:3": other} {
		readBack(t, sourceOf(t, src, name), "", img)
	}
	fresh := filepath.Join(t.TempDir(), "b.tar")
	save(t, fresh, map[string]imagetest.Image{"quay.io/a/b:1": first, "quay.io/a/b:2": multi, "quay.io/c/d:3": other})
	if !bytes.Equal(read(t, path), read(t, fresh)) {
		t.Error("added to, it differs from one that was made at once")
	}

	// The target goes on after Finish. A name that moves leaves its blobs out.
	if err := errors.Join(put(t.Context(), target, "quay.io/a/b:2", other), put(t.Context(), target, "quay.io/a/b:1", other), target.Finish(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := members(t, path); len(got) != 4+len(other.Blobs)+1 {
		t.Errorf("the archive holds %q", got)
	}
}

func TestNothingCommittedMakesNothing(t *testing.T) {
	dir := t.TempDir()
	target := openTarget(t, "oci-archive://"+dir+"/a.tar")
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ls(t, dir); len(got) != 0 {
		t.Errorf("opened, there is %q", got)
	}
	if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("head: %v", err)
	}
	if err := errors.Join(putAll(t.Context(), dst, first), target.Finish(t.Context()), target.Close()); err != nil {
		t.Fatal(err)
	}
	if got := ls(t, dir); len(got) != 0 {
		t.Errorf("not committed, there is %q", got)
	}
}

func TestTwoRunsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	var wg sync.WaitGroup
	for n := range 6 {
		target := openTarget(t, "oci-archive://"+path)
		wg.Go(func() {
			img := imagetest.New(imagetest.Linux, nil, base, imagetest.Random(uint64(50+n), 2000))
			if err := errors.Join(put(t.Context(), target, fmt.Sprintf("h.x/a:%d", n), img), target.Finish(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := list(t, openSource(t, "oci-archive://"+path, nil)); len(got) != 6 {
		t.Errorf("%d images, want 6", len(got))
	}
	if got := ls(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("the folder holds %q", got)
	}
}

func TestBadBlobsAreNotTaken(t *testing.T) {
	dir := t.TempDir()
	target := openTarget(t, "oci-archive://"+dir+"/a.tar")
	dst, err := target.Image(t.Context(), oci.Ref{Registry: "h.x", Repository: "a", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []oci.Descriptor{{Digest: base.Desc.Digest, Size: 4}, {Digest: base.Desc.Digest, Size: 3}, {Digest: "sha256:../../x", Size: 4}} {
		if _, err := dst.PutBlob(t.Context(), blobOf(d, []byte("oops"))); err == nil || !strings.Contains(err.Error(), "a.tar") {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if err := dst.Commit(t.Context(), first.Desc, first.Desc); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("commit of nothing: %v", err)
	}
	// A manifest whose blobs are missing is refused at the end.
	if _, err := dst.PutManifest(t.Context(), first.Raw, first.Desc.MediaType); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), first.Desc, first.Desc); err != nil {
		t.Fatal(err)
	}
	if err := target.Finish(t.Context()); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "a.tar") {
		t.Errorf("finish without blobs: %v", err)
	}
	if got := ls(t, dir); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
}

func TestCancelledFinishLeavesTheOldArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	save(t, path, map[string]imagetest.Image{"h.x/a:1": first})
	old := read(t, path)
	target := openTarget(t, "oci-archive://"+path)
	if err := put(t.Context(), target, "h.x/a:2", multi); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), old) || len(ls(t, filepath.Dir(path))) != 1 {
		t.Errorf("the old archive is no more: %q", ls(t, filepath.Dir(path)))
	}
}

// What another program puts there meanwhile is not overwritten unread.
func TestAnotherProgramsFileIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a.tar", map[string]imagetest.Image{"h.x/a:1": first})
	save(t, dir+"/b.tar", map[string]imagetest.Image{"h.x/b:1": multi})
	target := openTarget(t, "oci-archive://"+dir+"/a.tar")
	if err := put(t.Context(), target, "h.x/a:2", other); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/b.tar", dir+"/a.tar"); err != nil {
		t.Fatal(err)
	}
	if err := target.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := list(t, openSource(t, "oci-archive://"+dir+"/a.tar", nil)); len(got) != 2 || !strings.HasPrefix(got[0], "h.x/a:2 ") || !strings.HasPrefix(got[1], "h.x/b:1 ") {
		t.Errorf("got %q", got)
	}
}

func TestTargetsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("text", []byte("precious"))
	write("docker.tar", imagetest.Tar(imagetest.File("manifest.json", "[]")))
	write("both.tar", imagetest.Tar(imagetest.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), imagetest.File("index.json", `{"schemaVersion":2,"manifests":[]}`), imagetest.File("manifest.json", "[]")))
	write("other.tar", imagetest.Tar(imagetest.File("etc/passwd", "root")))
	write("l.tar.gz", imagetest.Gzip(imagetest.Tar(imagetest.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`))).Bytes)
	for _, name := range []string{"text", "docker.tar", "both.tar", "other.tar", "l.tar.gz", ".", "text:no reference"} {
		u, err := backend.ParseURI("oci-archive://" + dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ociarchive.Kind.Target(t.Context(), u, backend.Env{}); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write("empty", nil) // as mktemp makes it
	save(t, dir+"/empty", map[string]imagetest.Image{"h.x/a:1": first})
	if err := os.Symlink("empty", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	save(t, dir+"/link", map[string]imagetest.Image{"h.x/a:2": first})
	if got := list(t, openSource(t, "oci-archive://"+dir+"/empty", nil)); len(got) != 2 {
		t.Errorf("through a link: %q", got)
	}
}
