package ocidir_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// The test binary is also the other process of these tests: it writes images
// into a layout, to the end or until it is killed.
const (
	pathEnv = "OCIDIR_TEST_PATH"
	nameEnv = "OCIDIR_TEST_NAME" // the images are h.x/NAME-0:1, ...
	stopEnv = "OCIDIR_TEST_STOP" // at this image it stays in the middle of a blob
	each    = 15                 // images of one child
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
	u, err := backend.ParseURI("ocidir://" + os.Getenv(pathEnv))
	if err != nil {
		return err
	}
	target, err := ocidir.Kind.Target(ctx, u, backend.Env{})
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
			ref, err := oci.ParseRef(name, "")
			if err != nil {
				return err
			}
			dst, err := target.Image(ctx, ref)
			if err != nil {
				return err
			}
			_, err = dst.PutBlob(ctx, oci.Blob{Desc: base.Desc, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("half a blob"), middle{})), nil
			}})
			return err
		}
		if err := put(ctx, target, name, img); err != nil {
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

// member is image i of child name: half of them are the other child's too, with
// a layer of their own the others.
func member(name string, i int) (string, imagetest.Image) {
	seed := uint64(1000 + i)
	if i%2 == 1 {
		seed += uint64(len(name)) * 1000
	}
	return fmt.Sprintf("h.x/%s-%d:1", name, i), imagetest.New(imagetest.Linux, nil, base, imagetest.Random(seed, 20_000))
}

func startChild(t *testing.T, dir, name string, stop int) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pathEnv+"="+dir, nameEnv+"="+name, stopEnv+"="+strconv.Itoa(stop))
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

// verifyMembers hashes all of the images that a child is to have written.
func verifyMembers(t *testing.T, dir string, names ...string) {
	t.Helper()
	target := openTarget(t, "ocidir://"+dir)
	for _, name := range names {
		for i := range each {
			full, img := member(name, i)
			ref, err := oci.ParseRef(full, "")
			if err != nil {
				t.Fatal(err)
			}
			dst, err := target.Image(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if err := dst.Verify(t.Context(), img.Desc, true); err != nil {
				t.Error(err)
			}
		}
	}
	if got := list(t, openSource(t, "ocidir://"+dir, nil)); len(got) != each*len(names) {
		t.Errorf("the layout names %d images, want %d", len(got), each*len(names))
	}
	if _, err := os.Lstat(dir + "/.quaymaster"); !os.IsNotExist(err) {
		t.Errorf("the hidden folder stays: %v", err)
	}
}

func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir() + "/layout" // both make it
	names := []string{"a", "bb", "ccc"}
	var cmds []*exec.Cmd
	var outs []*bufio.Reader
	for _, name := range names {
		cmd, out := startChild(t, dir, name, -1)
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	for i, cmd := range cmds {
		said, err := io.ReadAll(outs[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", names[i], err, said)
		}
	}
	verifyMembers(t, dir, names...)
}

// TestKill kills a process in the middle of a blob, and runs it again.
func TestKill(t *testing.T) {
	dir := t.TempDir() + "/layout"
	for _, stop := range []int{0, each / 2} {
		cmd, out := startChild(t, dir, "a", stop)
		if line, err := out.ReadString('\n'); line != "in the middle\n" {
			t.Fatalf("the child said %q, %v", line, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}
	cmd, out := startChild(t, dir, "a", -1)
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	verifyMembers(t, dir, "a")
}

// TestOpenWhileItIsMade opens a folder again and again while another makes it a
// layout: it is never taken for somebody's folder.
func TestOpenWhileItIsMade(t *testing.T) {
	for range 10 {
		dir := t.TempDir()
		u, err := backend.ParseURI("ocidir://" + dir)
		if err != nil {
			t.Fatal(err)
		}
		maker := openTarget(t, u.String())
		done := make(chan error, 1)
		go func() { done <- put(t.Context(), maker, "h.x/a:1", first) }()
		for made := false; !made; {
			target, err := ocidir.Kind.Target(t.Context(), u, backend.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if err := target.Close(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				made = true
				if err != nil {
					t.Fatal(err)
				}
			default:
			}
		}
	}
}
