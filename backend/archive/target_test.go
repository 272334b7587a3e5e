package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/archive"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

func TestRefusals(t *testing.T) {
	basename := filepath.Join(t.TempDir(), "b.tar")
	mustRun(t, "tar://"+basename+"?repo_tags=basename", "quay.io/a/one:1", one)
	tests := []struct {
		name, uri string
		text      string
	}{
		{"no archive", "tar://" + write(t, []byte(strings.Repeat("text ", 500))), "no tar archive"},
		{"another archive", "tar://" + write(t, imagetest.Tar(imagetest.File("a", "b"))), "no archive of docker save"},
		{"compressed layers", "tar://" + write(t, docker(gzipped, "other:1")), "compressed"},
		{"the same last name", "tar://" + basename + "?repo_tags=basename", "quay.io/a/one:1 as one:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, _, _ := strings.Cut(strings.TrimPrefix(tt.uri, "tar://"), "?")
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := run(t, tt.uri, backend.Env{}, "quay.io/b/one:1", one); !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want refused with %q and the file's name", err, tt.text)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
			only(t, filepath.Dir(path), filepath.Base(path))
			uri := "tar://" + path + "?overwrite=true"
			mustRun(t, uri, "quay.io/b/one:1", one)
			same(t, mustOpen(t, "tar://"+path), "quay.io/b/one:1", one)
		})
	}
}

func TestNamesOfDocker(t *testing.T) {
	tests := []struct {
		query string
		env   backend.Env
		want  string
	}{
		{"", backend.Env{}, "quay.io/kolla/nova-api:2025.1"},
		{"", backend.Env{RepoTags: "basename"}, "nova-api:2025.1"},
		{"?repo_tags=basename", backend.Env{}, "nova-api:2025.1"},
		{"?repo_tags=full", backend.Env{RepoTags: "basename"}, "quay.io/kolla/nova-api:2025.1"},
		{":example.com/x:7", backend.Env{}, "example.com/x:7"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "a.tar")
		uri := "tar://" + path + tt.query
		if _, err := run(t, uri, tt.env, "quay.io/kolla/nova-api:2025.1", one); err != nil {
			t.Fatal(err)
		}
		if got := names(t, mustOpen(t, "tar://"+path)); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s, %q: names %q, want %s", tt.query, tt.env.RepoTags, got, tt.want)
		}
		target := openTarget(t, uri, tt.env)
		got := target.(oci.Namer).NameOf(oci.Ref{Registry: "quay.io", Repository: "kolla/nova-api", Tag: "2025.1"})
		if got != tt.want {
			t.Errorf("%s: NameOf says %q, want %s", tt.query, got, tt.want)
		}
		if n, err := run(t, uri, tt.env, "quay.io/kolla/nova-api:2025.1", one); err != nil || n != 1 {
			t.Errorf("%s: the second run found %d, %v", tt.query, n, err)
		}
	}
}

// TestAShortNameIsTakenFromTheImageThatHadIt: an archive has each name once.
func TestAShortNameIsTakenFromTheImageThatHadIt(t *testing.T) {
	path := write(t, docker(asIs, "app:1", "other:1"))
	mustRun(t, "tar://"+path+"?repo_tags=basename", "quay.io/a/app:1", one)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(raw, []byte(`"app:1"`)); n != 1 {
		t.Errorf("manifest.json has the name %d times", n)
	}
	same(t, mustOpen(t, "tar://"+path), "app:1", one)
	same(t, mustOpen(t, "tar://"+path), "other:1", plain("docker", base))
}

// TestWhatTheShellOpenedIsWrittenTo: what is in the file already stays.
func TestWhatTheShellOpenedIsWrittenTo(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("before"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, fmt.Sprintf("tar:///proc/self/fd/%d", f.Fd()), "quay.io/a/one:1", one)
	raw, err := os.ReadFile(f.Name())
	if err != nil || !bytes.HasPrefix(raw, []byte("before")) {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	same(t, mustOpen(t, "tar://"+write(t, raw[len("before"):])), "quay.io/a/one:1", one)
	only(t, filepath.Dir(f.Name()), "out")
}

func TestALinkStaysALink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.Symlink("real/a.tar", filepath.Join(dir, "link.tar"))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // to nothing yet, and to an archive
		mustRun(t, "tar://"+filepath.Join(dir, "link.tar"), "quay.io/a/one:1", one)
		same(t, mustOpen(t, "tar://"+filepath.Join(dir, "real/a.tar")), "quay.io/a/one:1", one)
		only(t, dir, "link.tar", "real")
	}
}

func TestUsage(t *testing.T) {
	for _, uri := range []string{"tar://-", "tar://", "tar://a.tar?repo_tags=short", "tar://a.tar?overwrite=perhaps", "tar://a.tar:UPPER", "tar://a.tar:tag", "tar://" + t.TempDir()} {
		u, err := backend.ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Kind.Target(t.Context(), u, backend.Env{}); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%s: %v, want a usage error", uri, err)
		}
	}
	if _, err := openSource("tar://-", backend.Env{}); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "/dev/stdin") {
		t.Errorf("standard input: %v", err)
	}
}

// TestFailuresLeaveTheOldFile ends runs halfway.
func TestFailuresLeaveTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	mustRun(t, "tar://"+path, "quay.io/a/one:1", one)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]func(t *testing.T, target oci.Target){
		"no Finish": func(*testing.T, oci.Target) {},
		"cancelled": func(t *testing.T, target oci.Target) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := target.Finish(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			target := openTarget(t, "tar://"+path, backend.Env{})
			if _, err := put(t.Context(), target, "quay.io/a/two:1", two); err != nil {
				t.Fatal(err)
			}
			end(t, target)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file was changed (%v)", err)
			}
			only(t, filepath.Dir(path), "a.tar")
		})
	}
}

func TestRunsAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	var g errgroup.Group
	for i := range 6 {
		target := openTarget(t, "tar://"+path, backend.Env{})
		g.Go(func() error {
			if _, err := put(t.Context(), target, fmt.Sprintf("quay.io/a/app%d:1", i), one); err != nil {
				return err
			}
			return target.Finish(t.Context())
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	images := mustOpen(t, "tar://"+path)
	if got := names(t, images); len(got) != 6 {
		t.Errorf("names %q, want 6", got)
	}
	same(t, images, "quay.io/a/app3:1", one)
	only(t, filepath.Dir(path), "a.tar")
}

func TestManyImages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	var images []any
	for i := range 100 {
		images = append(images, fmt.Sprintf("quay.io/a/app%03d:1", i), plain(fmt.Sprint(i), base, layerOf("srv/app", fmt.Sprint(i))))
	}
	mustRun(t, "tar://"+path, images...)
	src := mustOpen(t, "tar://"+path)
	if got := names(t, src); len(got) != 100 || got[99] != "quay.io/a/app099:1" {
		t.Errorf("%d names", len(got))
	}
	same(t, src, "quay.io/a/app042:1", images[85].(imagetest.Image))
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(100*(len(base)/10+6*1024) + len(base)); fi.Size() > limit {
		t.Errorf("%d bytes: the shared layer is there more than once", fi.Size())
	}
}

func TestAFullDiskNamesTheFile(t *testing.T) {
	_, err := run(t, "tar:///dev/full", backend.Env{}, "quay.io/a/one:1", one)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("error %v, want no space with the file's name", err)
	}
}
