package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// occystrap's old commands for daemons, with a Docker daemon; and its --socket
// and DOCKER_HOST.
func TestOldCommandsWithADaemon(t *testing.T) {
	d := daemontest.Docker(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	far := newFar()
	if err := fill(far.Server); err != nil {
		t.Fatal(err)
	}
	far.run = far.Start()
	defer far.run.Close()
	env := map[string]string{"DOCKER_HOST": d.Host()}
	must := func(env map[string]string, args ...string) result {
		t.Helper()
		got := program(t, env, args...)
		if got.status != 0 {
			t.Fatalf("%q: status %d: %s", args, got.status, got.talk)
		}
		return got
	}
	must(env, "process", "registry://"+far.run.Host+"/kolla/nova-api:2025.1", "docker://kolla/nova-api:2025.1")
	if names := d.Do(t, "images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(names, "kolla/nova-api:2025.1") {
		t.Errorf("the daemon has %q", names)
	}

	plan := must(env, "process", "--dry-run", "docker://kolla/nova-api:2025.1", "ocidir://"+in("layout"))
	if !strings.Contains(plan.out, "size unknown") || !strings.Contains(plan.talk, "0 B and 1 of unknown size to move") {
		t.Errorf("the plan is %q, %q", plan.out, plan.talk)
	}
	got := must(nil, "docker-to-tarfile", "kolla/nova-api", "2025.1", in("nova.tar"), "--socket", d.Socket, "--normalize-timestamps", "--timestamp", "7")
	if !strings.Contains(got.talk, "Warning: docker-to-tarfile is deprecated") {
		t.Errorf("no notice: %s", got.talk)
	}
	d.Do(t, "rmi", "kolla/nova-api:2025.1")
	d.Do(t, "load", "-i", in("nova.tar"))
	if names := d.Do(t, "images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(names, "nova-api:2025.1") {
		t.Errorf("after docker load the daemon has %q", names)
	}
	must(env, "docker-to-extracted", "nova-api", "2025.1", in("folder"), "--use-unique-names", "--expand")
	if _, err := os.Stat(in("folder/manifest-nova-api-2025.1/app")); err != nil {
		t.Error(err)
	}
	must(nil, "docker-to-oci", "--socket", d.Socket, "nova-api", "2025.1", in("bundle"))
	if _, err := os.Stat(in("bundle/rootfs/app")); err != nil {
		t.Error(err)
	}
	got = must(env, "search-layers-docker", "nova-api", "2025.1", "app", "--script-friendly")
	if !regexp.MustCompile(`^nova-api:2025.1:[0-9a-f]{64}:app\n$`).MatchString(got.out) {
		t.Errorf("found %q", got.out)
	}
	must(env, "process", "docker://nova-api:2025.1", "tar://"+in("{name}-{arch}-{digest}.tar"))
	if made, _ := filepath.Glob(in("nova-api-amd64-*.tar")); len(made) != 1 {
		t.Errorf("made %q", made)
	}
	must(env, "process", "tar://"+in("nova.tar"), "docker://renamed:1")
	if got := program(t, env, "info", "docker://renamed:1"); got.status != 0 {
		t.Errorf("status %d: %s", got.status, got.talk)
	}
	if got := program(t, env, "search-layers-docker", "nosuch", "1", "app"); got.status != 1 || !strings.Contains(got.talk, "nosuch:1") {
		t.Errorf("status %d: %s", got.status, got.talk)
	}
}

// fetch-to-mounts mounts, and is unmounted here.
func TestFetchToMounts(t *testing.T) {
	need.Root(t)
	far := newFar()
	if err := fill(far.Server); err != nil {
		t.Fatal(err)
	}
	far.run = far.Start()
	defer far.run.Close()
	dir := t.TempDir() + "/mounts"
	got := program(t, nil, "fetch-to-mounts", far.run.Host, "kolla/nova-api", "2025.1", dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir+"/rootfs").CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	if raw, err := os.ReadFile(dir + "/rootfs/app"); got.status != 0 || err != nil || string(raw) != "api1" {
		t.Errorf("status %d, %q, %v: %s", got.status, raw, err, got.talk)
	}
}

// DOCKER_TLS_VERIFY and where docker's client looks for certificates then.
func TestDaemonOverTLS(t *testing.T) {
	dir := t.TempDir()
	for _, env := range []map[string]string{
		{"DOCKER_CERT_PATH": dir, "DOCKER_CONFIG": "/else"},
		{"DOCKER_CONFIG": dir},
	} {
		env["DOCKER_HOST"] = "tcp://127.0.0.1:2376"
		env["DOCKER_TLS_VERIFY"] = "1"
		for _, uri := range []string{"docker://a/b:1", "dockerpush://a/b:1"} {
			if got := program(t, env, "info", uri); got.status != 2 || !strings.Contains(got.talk, filepath.Join(dir, "ca.pem")) || !strings.Contains(got.talk, uri) {
				t.Errorf("%s: status %d: %s, want that there are no certificates", uri, got.status, got.talk)
			}
		}
	}
}
