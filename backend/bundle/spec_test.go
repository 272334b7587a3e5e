package bundle_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/quaymaster/quaymaster/internal/imagetest"
)

func readSpec(t testing.TB, dir string) rspec.Spec {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s rspec.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpec(t *testing.T) {
	passwd := "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n"
	group := "root:x:0:\napp:x:1001:\nwheel:x:10:app\naudio:x:29:app,root\n"
	base := imagetest.Tar(imagetest.Dir("etc"), imagetest.File("usr/share/passwd", passwd), imagetest.Symlink("etc/passwd", "/usr/share/passwd"), imagetest.File("etc/group", group), imagetest.File("data/full/x", "1"), imagetest.Dir("data/empty"))
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(outside, []byte("app:x:66:66::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   ocispec.ImageConfig
		tar  []byte
		got  func(s rspec.Spec) any
		want string
	}{
		{"no user", ocispec.ImageConfig{}, base, func(s rspec.Spec) any { return s.Process.User }, "{0 0 <nil> [29] }"},
		{"user by name", ocispec.ImageConfig{User: "app"}, base, func(s rspec.Spec) any { return s.Process.User }, "{1000 1001 <nil> [10 29] }"},
		{"user by number", ocispec.ImageConfig{User: "1000"}, base, func(s rspec.Spec) any { return s.Process.User }, "{1000 1001 <nil> [10 29] }"},
		{"user and group", ocispec.ImageConfig{User: "app:wheel"}, base, func(s rspec.Spec) any { return s.Process.User }, "{1000 10 <nil> [] }"},
		{"numbers that no file has", ocispec.ImageConfig{User: "7:8"}, base, func(s rspec.Spec) any { return s.Process.User }, "{7 8 <nil> [] }"},
		{"no files", ocispec.ImageConfig{User: "7:8"}, imagetest.Tar(imagetest.File("x", "")), func(s rspec.Spec) any { return s.Process.User }, "{7 8 <nil> [] }"},
		{"the machine's passwd", ocispec.ImageConfig{User: "9"}, imagetest.Tar(imagetest.Symlink("etc/passwd", outside)), func(s rspec.Spec) any { return s.Process.User }, "{9 0 <nil> [] }"},
		{"passwd is a pipe", ocispec.ImageConfig{User: "9"}, imagetest.Tar(imagetest.Entry{Header: tar.Header{Name: "etc/passwd", Typeflag: tar.TypeFifo}}), func(s rspec.Spec) any { return s.Process.User }, "{9 0 <nil> [] }"},
		{"home", ocispec.ImageConfig{User: "app"}, base, func(s rspec.Spec) any { return s.Process.Env[len(s.Process.Env)-1] }, "HOME=/home/app"},
		{"home of the image", ocispec.ImageConfig{User: "app", Env: []string{"HOME=/h"}}, base, func(s rspec.Spec) any { return s.Process.Env[len(s.Process.Env)-1] }, "HOME=/h"},
		{"environment", ocispec.ImageConfig{Env: []string{"PATH=/p", "A=b=c", "bad", "=x"}}, base, func(s rspec.Spec) any { return s.Process.Env }, "[PATH=/p TERM=xterm A=b=c HOME=/root]"},
		{"arguments", ocispec.ImageConfig{Entrypoint: []string{"/e", "x"}, Cmd: []string{"y"}}, base, func(s rspec.Spec) any { return s.Process.Args }, "[/e x y]"},
		{"working directory", ocispec.ImageConfig{WorkingDir: "a/../../b"}, base, func(s rspec.Spec) any { return s.Process.Cwd }, "/b"},
		{"no working directory", ocispec.ImageConfig{}, base, func(s rspec.Spec) any { return s.Process.Cwd }, "/"},
		{"terminal, host name, root", ocispec.ImageConfig{}, base, func(s rspec.Spec) any { return []any{s.Process.Terminal, s.Hostname, s.Root.Path, s.Root.Readonly} }, "[false quaymaster rootfs false]"},
		{"ports", ocispec.ImageConfig{ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}}, base, func(s rspec.Spec) any { return s.Annotations["org.opencontainers.image.exposedPorts"] }, "53/udp,80/tcp"},
		{"stop signal", ocispec.ImageConfig{StopSignal: "SIGUSR1"}, base, func(s rspec.Spec) any { return s.Annotations["org.opencontainers.image.stopSignal"] }, "SIGUSR1"},
		{"labels", ocispec.ImageConfig{Labels: map[string]string{"a": "b", "run.oci.handler": "krun", "io.quaymaster.digest": "x"}}, base,
			func(s rspec.Spec) any {
				return []string{s.Annotations["a"], s.Annotations["run.oci.handler"], s.Annotations["io.quaymaster.digest"]}
			}, "[b  " + string(from.Digest) + "]"},
		{"volumes", ocispec.ImageConfig{Volumes: map[string]struct{}{"/data/full": {}, "/data/empty": {}, "/new/../vol": {}, "/": {}, "/proc/x": {}}}, base,
			func(s rspec.Spec) any {
				var at []string
				for _, m := range s.Mounts {
					if m.Source == "tmpfs" && m.Destination != "/dev" {
						at = append(at, m.Destination)
					}
				}
				return at
			}, "[/data/empty /vol]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "b")
			if err := write(t, "oci://"+path, image{linux(tt.in), [][]byte{tt.tar}}, nil); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(tt.got(readSpec(t, path))); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
