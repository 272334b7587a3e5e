package mounts_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/backend/mounts"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

func whiteout(path string) imagetest.Entry { return imagetest.File(path, "") }

func with(e imagetest.Entry, change func(*tar.Header)) imagetest.Entry {
	change(&e.Header)
	return e
}

// TestTrees is that the kernel shows what the layers mean.
func TestTrees(t *testing.T) {
	need.Root(t)
	base := []imagetest.Entry{
		with(imagetest.Dir("."), func(h *tar.Header) { h.Mode = 0o750 }), imagetest.Dir("a"), imagetest.File("a/x", "1"), imagetest.Dir("a/d"), imagetest.File("a/d/y", "2"), imagetest.Dir("a/d/deep"), imagetest.File("a/d/deep/z", "3"),
		imagetest.Dir("ab"), imagetest.File("ab/z", "3"), imagetest.Symlink("link", "a/x"), imagetest.Hardlink("hard", "a/x"),
		with(imagetest.Dir("tmp"), func(h *tar.Header) { h.Mode = 0o1777; h.Uid = 3; h.Gid = 4 }), imagetest.File("tmp/f", ""),
		with(imagetest.File("su", "x"), func(h *tar.Header) { h.Mode = 0o4755; h.Uid = 7 }), with(imagetest.Entry{}, func(h *tar.Header) { h.Name = "fifo"; h.Typeflag = tar.TypeFifo }),
	}
	again := []imagetest.Entry{imagetest.Dir("a"), imagetest.File("a/again", "5"), whiteout("a/.wh.new"), whiteout("a/d/.wh.y")}
	tests := []struct {
		name   string
		layers [][]imagetest.Entry
	}{
		{"one", [][]imagetest.Entry{base}},
		{"none", nil},
		{"empty", [][]imagetest.Entry{{}, base, {}, {}}},
		{"nested whiteouts", [][]imagetest.Entry{base, {imagetest.Dir("a"), imagetest.Dir("a/d"), imagetest.Dir("a/d/deep"), whiteout("a/d/deep/.wh.z"), whiteout("a/d/.wh.y")}}},
		{"whiteouts without their directories", [][]imagetest.Entry{base, {whiteout("a/d/deep/.wh.z"), whiteout("tmp/.wh.f")}}},
		{"a deleted directory", [][]imagetest.Entry{base, {whiteout(".wh.a")}, {imagetest.File("b", "4")}}},
		{"deleted and made again", [][]imagetest.Entry{base, {whiteout(".wh.a")}, {imagetest.Dir("a"), imagetest.File("a/new", "4")}}},
		{"opaque", [][]imagetest.Entry{base, {imagetest.Dir("a"), imagetest.Dir("a/d"), whiteout("a/d/.wh..wh..opq"), imagetest.File("a/d/new", "4")}, {imagetest.File("a/d/y", "5")}}},
		{"opaque root", [][]imagetest.Entry{base, {imagetest.Dir("."), whiteout(".wh..wh..opq"), imagetest.File("only", "4")}}},
		{"a directory becomes a file and a link", [][]imagetest.Entry{base, {imagetest.File("a", "4"), imagetest.Symlink("ab", "a")}}},
		{"and a directory again", [][]imagetest.Entry{base, {imagetest.File("a", "4")}, {imagetest.Dir("a"), imagetest.File("a/n", "5")}}},
		{"a file becomes a directory", [][]imagetest.Entry{base, {imagetest.Dir("a/x"), imagetest.File("a/x/n", "4")}}},
		{"a layer twice", [][]imagetest.Entry{base, again, {imagetest.Dir("a"), imagetest.File("a/new", "6"), imagetest.File("a/x", "7"), whiteout("a/.wh.again"), imagetest.File("a/d/y", "8")}, again}},
		{"a layer twice, the lowest", [][]imagetest.Entry{base, {whiteout(".wh.a"), whiteout(".wh.ab")}, base}},
		{"whiteouts of nothing", [][]imagetest.Entry{base, {whiteout("a/.wh.nothing"), whiteout("no/such/.wh.thing"), imagetest.Dir("fresh"), whiteout("fresh/.wh.thing")}}},
	}
	orders := map[string]order{"upwards": upwards, "downwards": downwards}
	for _, tt := range tests {
		img := newImage(t, ocispec.ImageConfig{}, tt.layers...)
		want := merged(t, img)
		for how, o := range orders {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "m")
				unmountAtEnd(t, path)
				d, err := open(t, uri(path, ""))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := put(t.Context(), d, img, o); err != nil {
					t.Fatal(err)
				}
				got := tree(t, filepath.Join(path, "rootfs"))
				same(t, got, want)
			})
		}
	}
}

func names(lines []string) (names []string) {
	for _, l := range lines {
		name, _, _ := strings.Cut(l, " ")
		names = append(names, name)
	}
	return names
}

func TestLooks(t *testing.T) {
	need.Root(t)
	path := filepath.Join(t.TempDir(), "m")
	unmountAtEnd(t, path)
	img := newImage(t, ocispec.ImageConfig{},
		[]imagetest.Entry{with(imagetest.Dir("."), func(h *tar.Header) { h.Mode = 0o711; h.Uid = 5 }), with(imagetest.Dir("tmp"), func(h *tar.Header) { h.Mode = 0o1777; h.Gid = 4 })},
		[]imagetest.Entry{imagetest.File("tmp/a/b", "1")})
	d, err := open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), d, img, downwards); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": "41711 5:0", "tmp": "41777 0:4", "tmp/a": "40755 0:0"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(path, "rootfs", name), &st); err != nil {
			t.Fatal(err)
		}
		want = strings.Replace(want, "41711", "40711", 1)
		if got := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}

// TestConfig is that config.json is made, of users that are in the image.
func TestConfig(t *testing.T) {
	need.Root(t)
	for user, want := range map[string]uint32{"me": 42, "nobody-knows": 0} {
		path := filepath.Join(t.TempDir(), "m")
		unmountAtEnd(t, path)
		img := newImage(t, ocispec.ImageConfig{User: user, Cmd: []string{"/bin/true"}, Env: []string{"A=b"}},
			[]imagetest.Entry{imagetest.Dir("etc"), imagetest.File("etc/passwd", "me:x:41:41::/:/bin/sh\n")}, []imagetest.Entry{imagetest.File("etc/passwd", "me:x:42:42::/home/me:/bin/sh\n")})
		target, err := openTarget(t, uri(path, ""), func(s string) {
			if want != 0 || !strings.Contains(s, "no config.json") {
				t.Errorf("warned: %s", s)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		d, err := target.Image(t.Context(), oci.Ref{Registry: "quay.io", Repository: "a/b", Tag: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := put(t.Context(), d, img, upwards); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		raw, err := os.ReadFile(filepath.Join(path, "config.json"))
		if want == 0 {
			if err == nil {
				t.Errorf("of an unknown user: %s", raw)
			}
			continue
		}
		var spec struct {
			Root    struct{ Path string }
			Process struct {
				User struct{ UID uint32 }
				Args []string
			}
		}
		if err := errors.Join(err, json.Unmarshal(raw, &spec)); err != nil || spec.Process.User.UID != want || spec.Root.Path != "rootfs" || len(spec.Process.Args) != 1 {
			t.Errorf("%v: %s", err, raw)
		}
	}
}

// TestSecondRun is that a second run takes what is there, and no other image comes
// into its place.
func TestSecondRun(t *testing.T) {
	need.Root(t)
	path := filepath.Join(t.TempDir(), "m")
	unmountAtEnd(t, path)
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1")}, []imagetest.Entry{imagetest.File("b", "2")}, []imagetest.Entry{whiteout(".wh.a")})
	d, err := open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	if n, err := put(t.Context(), d, img, upwards); n != 4 || err != nil {
		t.Fatalf("%d blobs, %v", n, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(path, "rootfs")
	if err := os.WriteFile(filepath.Join(rootfs, "mine"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}

	d, err = open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Head(t.Context(), ""); err != nil || got.Digest != img.desc.Digest {
		t.Errorf("Head: %v, %v", got, err)
	}
	if err := d.Verify(t.Context(), img.desc, true); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := unix.Unmount(rootfs, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "isn't mounted") {
		t.Errorf("unmounted: %v", err)
	}
	if err := d.Verify(t.Context(), img.desc, false); err == nil {
		t.Error("unmounted, but verified")
	}
	if n, err := put(t.Context(), d, img, upwards); n != 0 || err != nil {
		t.Errorf("mounted again: %d blobs, %v", n, err)
	}
	same(t, names(tree(t, rootfs)), []string{"b", "mine"})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	other := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1")})
	d, err = open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), d, other, upwards); !errors.Is(err, oci.ErrRefused) {
		t.Errorf("the name has another image: %v", err)
	}
	target, err := openTarget(t, uri(path, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.Image(t.Context(), oci.Ref{Registry: "quay.io", Repository: "a/b", Tag: "v2"}); !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), name) {
		t.Errorf("another name: %v", err)
	}
	same(t, names(tree(t, rootfs)), []string{"b", "mine"})
}

// TestGoesOn is that a run which ended in the middle is gone on with.
func TestGoesOn(t *testing.T) {
	need.Root(t)
	path := filepath.Join(t.TempDir(), "m")
	unmountAtEnd(t, path)
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1")}, []imagetest.Entry{imagetest.File("b", "2")}, []imagetest.Entry{imagetest.File("c", "3")})
	d, err := open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for i, l := range append([]imagetest.Layer{img.config}, img.layers...) {
		b := blob(l.Desc, l.Bytes, i-1)
		if i == 2 {
			b.Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(string(l.Bytes[:600])), failing{broken})), nil
			}
		}
		if _, err := d.PutBlob(t.Context(), b); (err != nil) != (i == 2) || err != nil && !errors.Is(err, broken) {
			t.Fatalf("blob %d: %v", i, err)
		}
	}
	if err := commit(t.Context(), d, img); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("commit: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 2 { // of the layers that were extracted, or begun
		t.Errorf("there is %v, %v", entries, err)
	}
	if err := os.MkdirAll(filepath.Join(path, img.layers[1].DiffID.Encoded(), "part", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err = open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := put(t.Context(), d, img, downwards); n != 3 || err != nil {
		t.Errorf("%d blobs, %v", n, err)
	}
	same(t, tree(t, filepath.Join(path, "rootfs")), merged(t, img))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestAnotherOrder is that a layer which an earlier run extracted for other layers
// isn't taken as it is.
func TestAnotherOrder(t *testing.T) {
	need.Root(t)
	path := filepath.Join(t.TempDir(), "m")
	unmountAtEnd(t, path)
	top := []imagetest.Entry{whiteout(".wh.a")}
	first := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("b", "1")}, top)
	second := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1")}, top)
	d, err := open(t, uri(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range append([]imagetest.Layer{first.config}, first.layers...) {
		if _, err := d.PutBlob(t.Context(), blob(l.Desc, l.Bytes, i-1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for try, o := range []order{downwards, downwards} {
		d, err := open(t, uri(path, ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := put(t.Context(), d, second, o); (err != nil) != (try == 0) {
			t.Errorf("try %d: %v", try, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, names(tree(t, filepath.Join(path, "rootfs"))), nil)
}

// TestPlan is that the plan's command makes the mount.
func TestPlan(t *testing.T) {
	need.Root(t)
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1"), imagetest.File("b", "1")}, []imagetest.Entry{imagetest.File("b", "2")}, []imagetest.Entry{whiteout(".wh.a")})
	path := filepath.Join(t.TempDir(), `it's a:b,c\d "e"`)
	unmountAtEnd(t, path)
	d, err := open(t, uri(path, "?mount=false"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(t.Context(), d, img, upwards); err != nil {
		t.Fatal(err)
	}
	same(t, tree(t, filepath.Join(path, "rootfs")), nil)
	if got, err := d.Head(t.Context(), ""); err != nil || got.Digest != img.desc.Digest {
		t.Errorf("Head: %v, %v", got, err)
	}
	raw, err := os.ReadFile(filepath.Join(path, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		LowerDirs []string
		Command   string
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	if len(p.LowerDirs) != 3 || p.LowerDirs[0] != img.layers[2].DiffID.Encoded()+"/layer" {
		t.Errorf("plan %s", raw)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", p.Command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", p.Command, err, out)
	}
	same(t, tree(t, filepath.Join(path, "rootfs")), merged(t, img))
	if d, err = open(t, uri(path, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Head(t.Context(), ""); err != nil {
		t.Errorf("the mount isn't known again: %v", err)
	}
}

// TestNames is that neither long paths nor those with characters that overlayfs
// gives a meaning are in the way, on new kernels and old ones.
func TestNames(t *testing.T) {
	need.Root(t)
	var layers [][]imagetest.Entry
	for i := range 70 {
		layers = append(layers, []imagetest.Entry{imagetest.Dir(fmt.Sprintf("d%d", i)), imagetest.File(fmt.Sprintf("d%d/f", i), fmt.Sprint(i)), imagetest.File("last", fmt.Sprint(i))})
	}
	many, few := newImage(t, ocispec.ImageConfig{}, layers...), newImage(t, ocispec.ImageConfig{}, layers[:3]...)
	for _, old := range []bool{false, true} {
		for _, dir := range []string{"plain", `a:b,c\d 'e' "f" =g%h`, strings.Repeat("long/", 60), "new\nline"} {
			t.Run(fmt.Sprintf("%.20q old %v", dir, old), func(t *testing.T) {
				if old {
					defer mounts.UseOldMount()()
				}
				img := few
				if dir == "plain" {
					img = many
				}
				path := filepath.Join(t.TempDir(), dir)
				unmountAtEnd(t, path)
				d, err := open(t, strings.ReplaceAll(uri(path, ""), "\n", "%0A"))
				if err != nil {
					t.Fatal(err)
				}
				if err := putAtOnce(t.Context(), d, img); err != nil {
					t.Fatal(err)
				}
				same(t, tree(t, filepath.Join(path, "rootfs")), merged(t, img))
			})
		}
	}
}

// TestRefuses is what is said no to, before anything is written.
func TestRefuses(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	file, full := filepath.Join(dir, "file"), filepath.Join(dir, "full")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "precious"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, "odd")
	if err := errors.Join(os.Mkdir(odd, 0o700), os.WriteFile(filepath.Join(odd, "plan.json"), []byte(`{"mine":1}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		uri  string
		want error
	}{
		{"mounts://", oci.ErrUsage},
		{"mounts://" + file, oci.ErrUsage},
		{"mounts://" + full, oci.ErrRefused},
		{"mounts://" + odd, oci.ErrRefused},
		{"mounts://" + dir + "/new?mount=perhaps", oci.ErrUsage},
	}
	for _, tt := range tests {
		if _, err := open(t, tt.uri); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.uri, err, tt.want)
		}
	}
	if _, err := open(t, "mounts://"+dir+"/new"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a folder was made to look at it")
	}
}

// TestFails is that what goes wrong is told and leaves no half layer.
func TestFails(t *testing.T) {
	need.Root(t)
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1")}, []imagetest.Entry{imagetest.File("b", "2")})
	stop := errors.New("interrupted")
	tests := []struct {
		name string
		put  func(t *testing.T, d oci.Destination) error
		want error
	}{
		{"other bytes", func(t *testing.T, d oci.Destination) error {
			raw := []byte(strings.Replace(string(img.layers[0].Bytes), "1", "9", 1))
			_, err := d.PutBlob(t.Context(), blob(img.layers[0].Desc, raw, 0))
			return err
		}, oci.ErrDigestMismatch},
		{"other bytes, later", func(t *testing.T, d oci.Destination) error {
			_, err := d.PutBlob(t.Context(), blob(img.layers[1].Desc, img.layers[0].Bytes, 1))
			return err
		}, oci.ErrDigestMismatch},
		{"no tar", func(t *testing.T, d oci.Destination) error {
			l := imagetest.Blob(ocispec.MediaTypeImageLayer, []byte(strings.Repeat("no tar", 500)))
			bad := img
			bad.layers = []imagetest.Layer{l}
			_, err := put(t.Context(), d, newBad(t, bad), upwards)
			return err
		}, oci.ErrInvalid},
		{"interrupted", func(t *testing.T, d oci.Destination) error {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(stop)
			_, err := d.PutBlob(ctx, blob(img.layers[0].Desc, img.layers[0].Bytes, 0))
			return err
		}, stop},
		{"a layer is missing", func(t *testing.T, d oci.Destination) error {
			less := img
			less.layers = img.layers[:1]
			_, err := put(t.Context(), d, less, upwards)
			return err
		}, oci.ErrNotFound},
		{"no config", func(t *testing.T, d oci.Destination) error { return commit(t.Context(), d, img) }, oci.ErrNotFound},
		{"no config there", func(t *testing.T, d oci.Destination) error {
			c := imagetest.Blob("", []byte("[]"))
			_, err := d.PutBlob(t.Context(), blob(c.Desc, c.Bytes, oci.NoLayer))
			return err
		}, oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "some", "m")
			d, err := open(t, uri(path, ""))
			if err != nil {
				t.Fatal(err)
			}
			if tt.name == "other bytes" {
				if _, err := d.PutBlob(t.Context(), blob(img.config.Desc, img.config.Bytes, oci.NoLayer)); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.put(t, d); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"plan.json", "rootfs", ".lock"} {
				if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
					t.Errorf("there is %s", name)
				}
			}
			parts, err := filepath.Glob(filepath.Join(path, "*", "part"))
			if err != nil || len(parts) > 0 {
				t.Errorf("left: %q, %v", parts, err)
			}
		})
	}
}

// newBad makes the config and manifest of img's layers.
func newBad(t *testing.T, img image) image {
	t.Helper()
	c := ocispec.Image{Platform: imagetest.Linux}
	for _, l := range img.layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.DiffID)
	}
	img.config = imagetest.Blob(ocispec.MediaTypeImageConfig, marshal(t, c))
	return img
}

// TestDamage is that Verify sees what is changed.
func TestDamage(t *testing.T) {
	need.Root(t)
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("a", "1"), imagetest.File("b", "2")}, []imagetest.Entry{whiteout(".wh.a")})
	at := func(path string, i int, name string) string {
		return filepath.Join(path, img.layers[i].DiffID.Encoded(), "layer", name)
	}
	tests := []struct {
		name   string
		full   bool // only then
		damage func(path string) error
	}{
		{"a file is gone", false, func(p string) error { return os.Remove(at(p, 0, "b")) }},
		{"a file more", false, func(p string) error { return os.WriteFile(at(p, 0, "more"), nil, 0o600) }},
		{"a whiteout is gone", false, func(p string) error { return os.Remove(at(p, 1, "a")) }},
		{"another size", false, func(p string) error { return os.WriteFile(at(p, 0, "b"), []byte("22"), 0o600) }},
		{"another content", true, func(p string) error { return os.WriteFile(at(p, 0, "b"), []byte("9"), 0o600) }},
		{"another config", false, func(p string) error {
			return os.WriteFile(filepath.Join(p, "container-config.json"), []byte("{}"), 0o600)
		}},
		{"no plan", false, func(p string) error { return os.Remove(filepath.Join(p, "plan.json")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			d, err := open(t, uri(path, "?mount=false"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := put(t.Context(), d, img, upwards); err != nil {
				t.Fatal(err)
			}
			if err := tt.damage(path); err != nil {
				t.Fatal(err)
			}
			if err := d.Verify(t.Context(), img.desc, false); (err == nil) != tt.full {
				t.Errorf("short: %v", err)
			}
			if err := d.Verify(t.Context(), img.desc, true); err == nil {
				t.Error("full: no error")
			}
		})
	}
}

// TestManyLayers is that more layers than overlayfs takes are refused when that is
// known.
func TestManyLayers(t *testing.T) {
	need.Root(t)
	c := ocispec.Image{Platform: imagetest.Linux}
	for i := range 501 {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, imagetest.Blob("", []byte{byte(i), byte(i >> 8)}).DiffID)
	}
	d, err := open(t, uri(filepath.Join(t.TempDir(), "m"), ""))
	if err != nil {
		t.Fatal(err)
	}
	config := imagetest.Blob("", marshal(t, c))
	if _, err := d.PutBlob(t.Context(), blob(config.Desc, config.Bytes, oci.NoLayer)); !errors.Is(err, oci.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// TestFolderThatWasThere: it is closed to others before anything is in it, and no
// link in it is followed.
func TestFolderThatWasThere(t *testing.T) {
	img := newImage(t, ocispec.ImageConfig{}, []imagetest.Entry{imagetest.File("f", "1")})
	path, outside := t.TempDir(), t.TempDir()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	write := func(path string) error {
		d, err := open(t, uri(path, "?mount=false"))
		if err == nil {
			_, err = put(t.Context(), d, img, upwards)
		}
		return err
	}
	if err := write(path); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	path = t.TempDir()
	if err := os.Symlink(outside, filepath.Join(path, img.layers[0].DiffID.Encoded())); err != nil {
		t.Fatal(err)
	}
	if err := write(path); !errors.Is(err, oci.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) > 0 {
		t.Errorf("outside: %v, %v", names, err)
	}
}
