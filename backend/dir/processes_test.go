package dir_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// The test binary is also the other process of these tests: it writes images
// into a folder, to the end or until it is killed.
const (
	pathEnv = "DIR_TEST_PATH"
	nameEnv = "DIR_TEST_NAME" // the images are h.x/NAME/r0:1, ...
	stopEnv = "DIR_TEST_STOP" // at this image it stays in the middle of a layer
	each    = 15              // images of one child
)

func TestMain(m *testing.M) {
	if os.Getenv(pathEnv) == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func child(ctx context.Context) error {
	u, err := backend.ParseURI("dir://" + os.Getenv(pathEnv) + "?unique_names=true")
	if err != nil {
		return err
	}
	target, err := dir.Kind.Target(ctx, u, backend.Env{})
	if err != nil {
		return err
	}
	stop, err := strconv.Atoi(os.Getenv(stopEnv))
	if err != nil {
		return err
	}
	for i := range each {
		name, img := member(os.Getenv(nameEnv), i)
		if i == stop {
			dst, err := target.Image(ctx, name)
			if err != nil {
				return err
			}
			_, err = dst.PutBlob(ctx, oci.Blob{Desc: oci.Descriptor{Digest: top.DiffID, Size: -1}, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("half a layer"), middle{})), nil
			}})
			return err
		}
		if err := put(ctx, target, name, img, img.Desc); err != nil {
			return err
		}
	}
	return target.Close()
}

// middle says where it is and stays there until the parent is gone.
type middle struct{}

func (middle) Read([]byte) (int, error) {
	fmt.Println("in the middle")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0, io.ErrUnexpectedEOF
}

// member is image i of child name. All share the base, half of them all layers.
func member(name string, i int) (oci.Ref, imagetest.Image) {
	seed := uint64(1000 + i)
	if i%2 == 1 {
		seed += uint64(len(name)) * 1000
	}
	return oci.Ref{Registry: "h.x", Repository: fmt.Sprintf("%s/r%d", name, i), Tag: "1"},
		imagetest.New(imagetest.Linux, nil, base, imagetest.Random(seed, 20_000))
}

func startChild(t *testing.T, folder, name string, stop int) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pathEnv+"="+folder, nameEnv+"="+name, stopEnv+"="+strconv.Itoa(stop))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

func finish(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// verifyMembers hashes all of the images that children are to have written.
func verifyMembers(t *testing.T, folder string, names ...string) {
	t.Helper()
	target := open(t, "dir://"+folder+"?unique_names=true", nil)
	for _, name := range names {
		for i := range each {
			ref, img := member(name, i)
			dst, err := target.Image(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := dst.Head(t.Context(), ""); err != nil || d.Digest != img.Desc.Digest {
				t.Errorf("%s is %s, %v", ref, d.Digest, err)
			}
			if err := dst.Verify(t.Context(), img.Desc, true); err != nil {
				t.Error(err)
			}
		}
	}
	var catalog map[string]map[string]string
	if err := json.Unmarshal([]byte(read(t, folder, "catalog.json")), &catalog); err != nil {
		t.Fatal(err)
	}
	if len(catalog) != each*len(names) {
		t.Errorf("the catalog lists %d images, want %d", len(catalog), each*len(names))
	}
	if _, err := os.Lstat(folder + "/.quaymaster"); !os.IsNotExist(err) {
		t.Errorf("the hidden folder stays: %v", err)
	}
}

func TestTwoProcesses(t *testing.T) {
	folder := t.TempDir() + "/out" // both make it
	a, outA := startChild(t, folder, "a", -1)
	b, outB := startChild(t, folder, "bb", -1)
	finish(t, a, outA)
	finish(t, b, outB)
	verifyMembers(t, folder, "a", "bb")
}

// TestKill kills a process in the middle of a layer, and runs it again.
func TestKill(t *testing.T) {
	folder := t.TempDir() + "/out"
	for _, stop := range []int{0, each / 2} {
		cmd, out := startChild(t, folder, "a", stop)
		if line, err := out.ReadString('\n'); line != "in the middle\n" {
			t.Fatalf("the child said %q, %v", line, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		if _, err := os.Lstat(folder + "/" + top.DiffID.Encoded() + "/layer.tar"); !os.IsNotExist(err) {
			t.Errorf("half a layer has its final name: %v", err)
		}
	}
	cmd, out := startChild(t, folder, "a", -1)
	finish(t, cmd, out)
	verifyMembers(t, folder, "a")
}
