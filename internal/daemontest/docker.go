package daemontest

import (
	"os"
	"testing"

	"github.com/quaymaster/quaymaster/internal/need"
)

// Docker starts a Docker daemon.
func Docker(t testing.TB) Daemon {
	t.Helper()
	need.Root(t)
	daemon, client := need.Program(t, "dockerd"), need.Program(t, "docker")
	for _, p := range []string{"containerd", "runc"} { // which it starts
		need.Program(t, p)
	}
	at := folder(t, "dockerd")
	if err := os.WriteFile(at("config"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := Daemon{Socket: at("socket"), client: []string{client}}
	d.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + at(""), "DOCKER_HOST=" + d.Host()}
	d.start(t, daemon, "--config-file", at("config"), "--host", d.Host(),
		"--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"),
		"--log-level=warn", "--storage-driver=vfs", "--bridge=none", "--iptables=false") // vfs works in a container too
	return d
}
