package ociarchive_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), need.Program(t, "skopeo"), append([]string{"--insecure-policy", "--override-os=linux", "--override-arch=amd64"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %q: %v\n%s", args, err, &stderr)
	}
	return out
}

func TestSkopeoReadsOurs(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a.tar", map[string]imagetest.Image{"quay.io/a/b:1": first, "quay.io/a/b:2": multi, "quay.io/a/c:1": other})
	for name, img := range map[string]imagetest.Image{"quay.io/a/b:1": first, "quay.io/a/b:2": multi} {
		if got := skopeo(t, "inspect", "--raw", "oci-archive:"+dir+"/a.tar:"+name); !bytes.Equal(got, img.Raw) {
			t.Errorf("%s: the manifest is %s", name, got)
		}
		out := filepath.Join(dir, "out")
		skopeo(t, "copy", "--quiet", "--all", "--preserve-digests", "oci-archive:"+dir+"/a.tar:"+name, "oci:"+out+":"+name)
		if got := skopeo(t, "inspect", "--raw", "oci:"+out+":"+name); !bytes.Equal(got, img.Raw) {
			t.Errorf("%s, copied: the manifest is %s", name, got)
		}
	}
}

func TestReadsSkopeos(t *testing.T) {
	dir := t.TempDir()
	save(t, dir+"/a.tar", map[string]imagetest.Image{"quay.io/a/b:2": multi})
	skopeo(t, "copy", "--quiet", "--all", "--preserve-digests", "oci-archive:"+dir+"/a.tar:quay.io/a/b:2", "oci-archive:"+dir+"/b.tar:quay.io/c/d:3")
	src := openSource(t, "oci-archive://"+dir+"/b.tar", func(s string) { t.Error(s) })
	readBack(t, sourceOf(t, src, "quay.io/c/d:3"), "", multi)

	// And ours beside it: what skopeo wrote stays.
	save(t, dir+"/b.tar", map[string]imagetest.Image{"quay.io/a/c:1": other})
	src = openSource(t, "oci-archive://"+dir+"/b.tar", nil)
	readBack(t, sourceOf(t, src, "quay.io/c/d:3"), "", multi)
	readBack(t, sourceOf(t, src, "quay.io/a/c:1"), "", other)
	if got := list(t, src); len(got) != 2 || !slices.IsSorted(got) || !strings.HasPrefix(got[0], "quay.io/a/c:1 ") {
		t.Errorf("listed %q", got)
	}
}
