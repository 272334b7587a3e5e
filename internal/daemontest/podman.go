package daemontest

import (
	"os"
	"testing"

	"github.com/quaymaster/quaymaster/internal/need"
)

// podmanConf keeps locks in a file of its own, where others of the machine are
// in shared memory, and asks for no limits that root in a container can't have.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
lock_type = "file"
`

// Podman starts podman's API service.
func Podman(t testing.TB) Daemon {
	t.Helper()
	need.Root(t)
	program := need.Program(t, "podman")
	need.Program(t, "runc")
	at := folder(t, "podman")
	if err := os.WriteFile(at("containers.conf"), []byte(podmanConf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("temp"), 0o700); err != nil { // it leaves files behind
		t.Fatal(err)
	}
	d := Daemon{Socket: at("socket")}
	d.client = []string{program, "--remote", "--url", d.Host()}
	d.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + at(""), "CONTAINERS_CONF=" + at("containers.conf"), "TMPDIR=" + at("temp")}
	d.start(t, program, "--root", at("data"), "--runroot", at("run"), "--tmpdir", at("tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		"system", "service", "--time", "0", d.Host())
	return d
}
