package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// A quay is a test Quay in this process, and what was pushed into it.
type quay struct {
	*quaytest.Server
	host   string
	images map[string]imagetest.Image // by "org/repository:tag"
	hangUp func()                     // closes connections
	busy   sync.RWMutex               // read-locked by each request
}

// startQuay starts an empty Quay. Blobs come from its own host, so that wrap,
// if not nil, stands in front of them too.
func startQuay(t testing.TB, o quaytest.Options, wrap func(http.Handler) http.Handler) *quay {
	t.Helper()
	q := &quay{Server: quaytest.New(o), images: map[string]imagetest.Image{}}
	far := serve(t, q.Server, func(next http.Handler) http.Handler {
		if wrap != nil {
			next = wrap(next)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q.busy.RLock()
			defer q.busy.RUnlock()
			next.ServeHTTP(w, r)
		})
	})
	q.host, q.hangUp = far.host, far.CloseClientConnections
	return q
}

// forget sets the counts to nothing once the requests of a program that was
// stopped are over.
func (q *quay) forget() {
	q.hangUp()
	q.busy.Lock()
	defer q.busy.Unlock()
	q.Reset()
}

// push puts img into the Quay as "org/repository:tag".
func (q *quay) push(t testing.TB, name string, img imagetest.Image) {
	t.Helper()
	repo, tag, _ := strings.Cut(name, ":")
	if err := q.Push(t.Context(), repo, tag, img); err != nil {
		t.Fatal(err)
	}
	q.images[name] = img
}

// fill pushes n images, org/app-00:v1 and on, of layers with size bytes: all
// share a base of random bytes, each third is of text, the last is an index.
func (q *quay) fill(t testing.TB, n, size int) {
	t.Helper()
	base := imagetest.Random(1, size)
	for i := range n {
		own := imagetest.Random(uint64(100+i), size)
		if i%3 == 1 {
			own = imagetest.Files(map[string]string{"usr/share/doc/app": strings.Repeat(fmt.Sprintf("This is line of app %d.\n", i), size/20)})
		}
		img := imagetest.New(imagetest.Linux, map[string]string{"app": fmt.Sprint(i)}, base, own)
		if i == n-1 {
			img = imagetest.Index(img, imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, imagetest.Random(2, size)))
		}
		q.push(t, fmt.Sprintf("org/app-%02d:v1", i), img)
	}
}

// source is the URI of all that fill pushed.
func (q *quay) source() string { return "quay://org/*:v1?host=" + q.host }

// names are the references of all images, with what they mean.
func (q *quay) names() map[string]oci.Digest {
	all := map[string]oci.Digest{}
	for name, img := range q.images {
		all[q.host+"/"+name] = img.Desc.Digest
	}
	return all
}

// blobs are the distinct blobs of all images.
func (q *quay) blobs() map[oci.Digest][]byte {
	return blobsOf(slices.Collect(maps.Values(q.images))...)
}

// blobsOf gives the blobs of images and of what they consist of.
func blobsOf(images ...imagetest.Image) map[oci.Digest][]byte {
	all := map[oci.Digest][]byte{}
	for _, img := range images {
		maps.Copy(all, img.Blobs)
		maps.Copy(all, blobsOf(img.Children...))
	}
	return all
}

// fetched counts how often each blob was read to its end since the last Reset.
func (q *quay) fetched() map[oci.Digest]int {
	all := map[oci.Digest]int{}
	for blob, n := range q.Transfers().Gets {
		all[blob.Digest] += n
	}
	return all
}

// process runs "process --plain-http args" to its end. Its memory isn't
// measured, which would cost a second under the race detector.
func process(t testing.TB, args ...string) result {
	t.Helper()
	var stderr bytes.Buffer
	cmd := startProcess(t, &stderr, args...)
	_ = cmd.Wait() // its status says it
	return result{stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// startProcess is process without waiting.
func startProcess(t testing.TB, stderr *bytes.Buffer, args ...string) *exec.Cmd {
	t.Helper()
	return start(t.Context(), t, stderr, append([]string{"process", "--plain-http"}, args...)...)
}

// processed is process for what has to succeed.
func processed(t testing.TB, args ...string) result {
	t.Helper()
	r := process(t, args...)
	if r.status != 0 {
		t.Fatalf("process %q: status %d\n%s", args, r.status, r.stderr)
	}
	return r
}

// has looks whether a tag means d.
func (q *quay) has(t testing.TB, repo, tag string, d oci.Digest) {
	t.Helper()
	dst := destination(t, env(t, transport.Options{Credentials: transport.Fixed(q.host, "u", "p")}), q.host, repo, tag)
	if got, err := dst.Head(t.Context(), ""); err != nil || got.Digest != d {
		t.Errorf("%s:%s is %s, %v, want %s", repo, tag, got.Digest, err, d)
	}
}
