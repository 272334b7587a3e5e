package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/need"
)

// A docker is a Docker daemon of our own, which shares nothing with one that the
// machine may have: folders, socket and containerd are its own, and it has no
// network.
type docker struct {
	client string // path of the program
	socket string
}

// daemonScript starts a daemon and stops it when standard input ends, so also
// when the tests are killed.
const daemonScript = `"$@" </dev/null & read -r _; kill $!; wait $!`

// startDocker starts a daemon. It ends with the test.
func startDocker(t testing.TB) docker {
	t.Helper()
	need.Root(t)
	daemon, client := need.Program(t, "dockerd"), need.Program(t, "docker")
	for _, p := range []string{"containerd", "runc"} { // which it starts
		need.Program(t, p)
	}
	dir, err := os.MkdirTemp("", "dockerd-") // a test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("config"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := docker{client, at("socket")}
	cmd := exec.Command("sh", "-c", daemonScript, "sh", daemon, "--config-file", at("config"),
		"--host", "unix://"+d.socket, "--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"),
		"--log-level=warn", "--storage-driver=vfs", "--bridge=none", "--iptables=false") // vfs works in a container too
	var log bytes.Buffer // read once the daemon is gone
	cmd.Stdout, cmd.Stderr = &log, &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which is its sign to end
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the daemon: %v\n%s", err, tail(log.String(), 4000))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := d.command(ctx, "version").CombinedOutput()
		if err == nil {
			return d
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the daemon doesn't answer: %s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail gives the end of s, at most n bytes.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (d docker) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.client, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(d.socket), "DOCKER_HOST=unix://" + d.socket}
	return cmd
}

// do runs a command of the client and gives what it prints.
func (d docker) do(t testing.TB, args ...string) string {
	t.Helper()
	cmd := d.command(t.Context(), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

// prints gives what the only image of an OCI layout prints: skopeo turns it
// into an archive, which the daemon loads and runs.
func (d docker) prints(t *testing.T, layout string) string {
	t.Helper()
	const name = "example.com/under/test:v1"
	archive := filepath.Join(t.TempDir(), "image.tar")
	skopeo(t, "copy", "--quiet", "oci:"+layout, "docker-archive:"+archive+":"+name)
	if got := d.do(t, "load", "--input", archive); !strings.Contains(got, name) {
		t.Errorf("docker load says %q", got)
	}
	out := d.do(t, "run", "--rm", "--network=none", name)
	d.do(t, "image", "rm", name)
	return out
}
