package bulk_test

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// What a full disk can't keep isn't fetched either.
func TestFullDiskEndsTheRun(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", dir).Run(); err != nil {
			t.Error("umount:", err)
		}
	})
	src := &images{far: newFar(t)}
	for i := range 10 {
		src.add(t, "org/app-0"+string(rune('0'+i)), "v1", imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(i), 1<<20)))
	}
	r, err := bulk.Copy(t.Context(), src, openTarget(t, "ocidir://"+dir+"/layout", backend.Env{}), bulk.Options{Images: 1})
	if !errors.Is(err, syscall.ENOSPC) || r.Totals.Failed != 1 || r.Totals.Copied != 0 || len(r.Images) > 3 {
		t.Errorf("got %v and %+v, want an end after the first", err, r.Totals)
	}
}
