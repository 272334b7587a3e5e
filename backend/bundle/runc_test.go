package bundle_test

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// TestRunc: runc prints what the image prints.
func TestRunc(t *testing.T) {
	need.Root(t)
	runc := need.Program(t, "runc")
	busybox, err := os.ReadFile(need.Program(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	exe := imagetest.Entry{Header: tar.Header{Name: "bin/busybox", Mode: 0o755}, Body: string(busybox)}
	script := `echo "$GREETING from $(id -u):$(id -g) $(id -G) in $(pwd), home $HOME, on $(hostname)"
ls /data; ls /vol; echo x >/vol/x && cat /vol/x; echo y >/home/app/y && cat /home/app/y; ls -d /gone 2>&1 || true`
	img := image{
		linux(ocispec.ImageConfig{
			User: "app", WorkingDir: "/work", Env: []string{"PATH=/bin", "GREETING=hello"},
			Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{script}, Volumes: map[string]struct{}{"/data": {}, "/vol": {}},
		}),
		[][]byte{
			imagetest.Tar(imagetest.Dir("bin"), exe, imagetest.Symlink("bin/sh", "busybox"), imagetest.Dir("etc"), imagetest.File("gone", "x"), imagetest.File("data/keep", ""), imagetest.File("data/del", ""),
				imagetest.File("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"), imagetest.File("etc/group", "app:x:1001:\nextra:x:44:app\n"),
				imagetest.Entry{Header: tar.Header{Name: "home/app/", Typeflag: tar.TypeDir, Uid: 1000, Gid: 1001}}),
			imagetest.Tar(imagetest.File(".wh.gone", ""), imagetest.File("data/.wh.del", ""),
				imagetest.Symlink("bin/id", "busybox"), imagetest.Symlink("bin/ls", "busybox"), imagetest.Symlink("bin/cat", "busybox"), imagetest.Symlink("bin/hostname", "busybox")),
		},
	}
	for i, o := range []string{"", "&network=host"} {
		path := filepath.Join(t.TempDir(), "b")
		if err := write(t, "oci://"+path+"?hostname=box"+o, img, nil); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("quaymaster-test-%d-%d", os.Getpid(), i)
		cmd := exec.CommandContext(t.Context(), runc, "--root", t.TempDir(), "run", "--bundle", path, id)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("runc: %v: %s", err, out)
		}
		want := "hello from 1000:1001 1001 44 in /work, home /home/app, on box\nkeep\nx\ny\nls: /gone: No such file or directory\n"
		if got := string(out); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
