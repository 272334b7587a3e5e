package daemontest

import (
	"os"
	"testing"

	"github.com/quaymaster/quaymaster/internal/need"
)

// Docker starts the machine's Docker daemon.
func Docker(t testing.TB) Daemon {
	t.Helper()
	need.Root(t)
	return docker(t, need.Program(t, "dockerd"), "{}", "--storage-driver=vfs") // which works in a container too
}

// A Store is where a Docker daemon keeps images.
type Store bool

// The stores of Docker from 25 on.
const (
	Graph      Store = false // layers as folders; configs, no manifests
	Containerd Store = true  // what was pulled, byte for byte
)

// ModernDocker starts the Docker daemon at path, of version 25 or later, with one
// of its stores. The runc of Debian 12 is too old for it to run containers.
func ModernDocker(t testing.TB, path string, s Store) Daemon {
	t.Helper()
	need.Root(t)
	if s == Containerd {
		return docker(t, path, `{"features":{"containerd-snapshotter":true}}`, "--ip6tables=false")
	}
	return docker(t, path, `{"features":{"containerd-snapshotter":false}}`, "--ip6tables=false", "--storage-driver=vfs")
}

// docker starts the daemon at path with a configuration and further flags.
func docker(t testing.TB, path, config string, flags ...string) Daemon {
	t.Helper()
	client := need.Program(t, "docker")
	for _, p := range []string{"containerd", "runc"} { // which it starts
		need.Program(t, p)
	}
	at := folder(t, "dockerd")
	if err := os.WriteFile(at("config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d := Daemon{Socket: at("socket"), client: []string{client}}
	d.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + at(""), "DOCKER_HOST=" + d.Host()}
	d.start(t, append([]string{path, "--config-file", at("config"), "--host", d.Host(),
		"--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"),
		"--log-level=warn", "--bridge=none", "--iptables=false"}, flags...)...)
	return d
}
