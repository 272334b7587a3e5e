package runspec_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/oci"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, raw string
		want      error
	}{
		{"linux", `{"os":"linux"}`, nil},
		{"early docker", `{}`, nil},
		{"another system", `{"os":"windows"}`, oci.ErrUnsupported},
		{"no JSON", `{"os":`, oci.ErrInvalid},
		{"wrong types", `{"os":"linux","config":{"Env":"A=b"}}`, oci.ErrInvalid},
		{"zero byte in a user", `{"config":{"User":"a\u0000b"}}`, oci.ErrInvalid},
		{"zero byte in the environment", `{"config":{"Env":["A=\u0000"]}}`, oci.ErrInvalid},
		{"zero byte in arguments", `{"config":{"Entrypoint":["a\u0000"]}}`, oci.ErrInvalid},
		{"zero byte in a command", `{"config":{"Cmd":["a\u0000"]}}`, oci.ErrInvalid},
		{"zero byte in a folder", `{"config":{"WorkingDir":"/\u0000"}}`, oci.ErrInvalid},
		{"zero byte in a volume", `{"config":{"Volumes":{"/\u0000":{}}}}`, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image, err := runspec.Parse([]byte(tt.raw))
			if !errors.Is(err, tt.want) || err == nil && image.OS != "linux" {
				t.Errorf("got %+v, %v, want %v", image, err, tt.want)
			}
		})
	}
}

// rootfs makes a root file system with a user app.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
		"etc/group":  "app:x:1001:\nextra:x:44:app\n",
		"full/f":     "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustMake(t *testing.T, o runspec.Options, c ocispec.ImageConfig, dir string) (*rspec.Spec, []string) {
	t.Helper()
	image := &ocispec.Image{Config: c}
	image.OS, image.Architecture = "linux", "amd64"
	spec, warned, err := o.Make(image, dir)
	if err != nil {
		t.Fatal(err)
	}
	return spec, warned
}

func TestMake(t *testing.T) {
	dir := rootfs(t)
	spec, warned := mustMake(t, runspec.Options{Hostname: "h"}, ocispec.ImageConfig{
		User: "app", WorkingDir: "../w", Env: []string{"A=b", "bad"}, Entrypoint: []string{"e"}, Cmd: []string{"c"},
		Volumes: map[string]struct{}{"/empty": {}, "/full": {}, "../up": {}, "/proc/x": {}, "/": {}, "/dev": {}},
		Labels:  map[string]string{"a": "b", "run.oci.hooks.stdout": "x", "io.quaymaster.config": "x", "org.systemd.property.X": "x"},
	}, dir)
	p := spec.Process
	if p.User.UID != 1000 || p.User.GID != 1001 || !slices.Equal(p.User.AdditionalGids, []uint32{44}) || p.Cwd != "/w" || !slices.Equal(p.Args, []string{"e", "c"}) {
		t.Errorf("got %+v", p)
	}
	if !slices.Contains(p.Env, "A=b") || !slices.Contains(p.Env, "HOME=/home/app") || slices.Contains(p.Env, "bad") {
		t.Errorf("got environment %q", p.Env)
	}
	if spec.Hostname != "h" || spec.Root.Path != runspec.RootFS || spec.Annotations["a"] != "b" {
		t.Errorf("got %q, %+v, %q", spec.Hostname, spec.Root, spec.Annotations)
	}
	for name := range spec.Annotations {
		if strings.HasPrefix(name, "run.") || strings.HasPrefix(name, runspec.Ours) || strings.HasPrefix(name, "org.systemd") {
			t.Errorf("annotation %s", name)
		}
	}
	var volumes []string
	for _, m := range spec.Mounts {
		if slices.Contains(m.Options, "relatime") && m.Type == "tmpfs" && m.Source == "tmpfs" && !strings.HasPrefix(m.Destination, "/dev") {
			volumes = append(volumes, m.Destination)
		}
	}
	if want := []string{"/up", "/empty"}; !slices.Equal(volumes, want) {
		t.Errorf("got volumes %q, want %q", volumes, want)
	}
	for _, want := range []string{`"bad"`, `"run.oci.hooks.stdout"`, `volume "/proc/x"`, `volume "/dev"`, `volume "/"`} {
		if all := strings.Join(warned, "\n"); !strings.Contains(all, want) {
			t.Errorf("warned %q, not of %s", all, want)
		}
	}
	if raw, err := runspec.Encode(spec); err != nil || !json.Valid(raw) {
		t.Errorf("got %s, %v", raw, err)
	}
}

func TestNetwork(t *testing.T) {
	for _, host := range []bool{false, true} {
		o := runspec.Options{HostNetwork: host}
		spec, _ := mustMake(t, o, ocispec.ImageConfig{}, rootfs(t))
		own := slices.ContainsFunc(spec.Linux.Namespaces, func(n rspec.LinuxNamespace) bool { return n.Type == rspec.NetworkNamespace })
		if os.Geteuid() == 0 && own == host || strings.Contains(o.String(), "network=host") != host {
			t.Errorf("%s: a network of its own: %t", o, own)
		}
	}
}

// TestUserFiles: what the image has where passwd should be is read within it, and
// nothing blocks.
func TestUserFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(outside, []byte("app:x:66:66::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   func(at string) error
	}{
		{"a link out", func(at string) error { return os.Symlink(outside, at) }},
		{"a link up", func(at string) error { return os.Symlink("../../../../../../../../.."+outside, at) }},
		{"a pipe", func(at string) error { return unix.Mkfifo(at, 0o644) }},
		{"a folder", func(at string) error { return os.Mkdir(at, 0o755) }},
		{"a loop", func(at string) error { return os.Symlink("passwd", at) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(dir+"/etc", 0o755), tt.in(dir+"/etc/passwd")); err != nil {
				t.Fatal(err)
			}
			image := &ocispec.Image{Config: ocispec.ImageConfig{User: "app"}}
			if _, _, err := (runspec.Options{}).Make(image, dir); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUsersThatCannotBe: ids are those that a system has.
func TestUsersThatCannotBe(t *testing.T) {
	for _, name := range []string{"nobody-has-it", "-1", "4294967296", "99999999999999999999", "0:no-such-group", "a\nb:c"} {
		image := &ocispec.Image{Config: ocispec.ImageConfig{User: name}}
		if _, _, err := (runspec.Options{}).Make(image, rootfs(t)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
