package stage_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// The test binary is also the other process of these tests: a writer that is
// killed in the middle of a blob, or whose files may not grow.
const (
	childEnv = "STAGE_TEST_CHILD" // hang or small
	pathEnv  = "STAGE_TEST_PATH"
	fileMax  = 200_000 // bytes, of the small child's files
)

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "small":
		signal.Ignore(unix.SIGXFSZ)
		limit := unix.Rlimit{Cur: fileMax, Max: fileMax}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			panic(err)
		}
		os.Exit(writeChild(strings.NewReader(strings.Repeat("x", 2*fileMax))))
	case "hang":
		os.Exit(writeChild(&hanging{}))
	}
	os.Exit(2)
}

// writeChild puts one blob and prints what came of it.
func writeChild(body io.Reader) int {
	st, err := stage.Open(os.Getenv(pathEnv), nil)
	if err != nil {
		panic(err)
	}
	_, err = st.Put(context.Background(), oci.Blob{Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(body), nil
	}}, blobName)
	if err != nil {
		os.Stdout.WriteString(strconv.Quote(err.Error()) + "\n")
	}
	if err := st.Close(); err != nil {
		panic(err)
	}
	return 0
}

// hanging says after half a MiB that it is in the middle, and stays there.
type hanging struct{ n int }

func (h *hanging) Read(p []byte) (int, error) {
	if h.n > 512<<10 {
		os.Stdout.WriteString("in the middle\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0, io.EOF
	}
	h.n += len(p)
	return len(p), nil
}

// start starts a child and gives the first line that it prints.
func start(t *testing.T, what, path string) (*exec.Cmd, string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+what, pathEnv+"="+path)
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return child, strings.TrimSpace(line)
}
