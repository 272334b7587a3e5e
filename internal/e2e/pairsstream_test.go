package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A recording is what a daemon answers about one image. Whoever is asked for the
// image sends it part by part.
type recording struct {
	id               oci.Digest
	inspect, history []byte
	parts            [][]byte // of the archive: its members, each with header and padding, and its end

	mu     sync.Mutex
	saves  int
	behind func() // called when all but the last byte of a part was sent; the rest waits for it
}

// record asks d for the image name.
func record(t *testing.T, d daemontest.Daemon, name string) *recording {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}}}
	defer client.CloseIdleConnections()
	get := func(path string) []byte {
		resp, err := client.Get("http://daemon/images/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return raw
	}
	r := &recording{inspect: get(name + "/json"), history: get(name + "/history")}
	var is struct{ ID oci.Digest }
	if err := json.Unmarshal(r.inspect, &is); err != nil {
		t.Fatal(err)
	}
	r.id = is.ID
	r.parts = partsOf(t, get(string(r.id)+"/get"))
	return r
}

// partsOf cuts an archive.
func partsOf(t *testing.T, archive []byte) (parts [][]byte) {
	t.Helper()
	at := bytes.NewReader(archive)
	r := tar.NewReader(at)
	where := func() int { return len(archive) - at.Len() }
	begin := 0
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return append(parts, make([]byte, 1024))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		end := where() + int(-h.Size&511)
		parts = append(parts, archive[begin:end])
		begin = end
	}
}

// reversed sends the members the other way round.
func (r *recording) reversed() *recording {
	parts := slices.Clone(r.parts)
	slices.Reverse(parts[:len(parts)-1])
	return &recording{id: r.id, inspect: r.inspect, history: r.history, parts: parts}
}

func (r *recording) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	switch {
	case strings.HasSuffix(q.URL.Path, "/json"):
		_, _ = w.Write(r.inspect)
	case strings.HasSuffix(q.URL.Path, "/history"):
		_, _ = w.Write(r.history)
	case strings.HasSuffix(q.URL.Path, "/get"):
		r.mu.Lock()
		r.saves++
		behind := r.behind
		r.mu.Unlock()
		for _, p := range r.parts {
			_, err := w.Write(p[:len(p)-1])
			if err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			behind()
			if _, err := w.Write(p[len(p)-1:]); err != nil {
				return
			}
		}
	default:
		http.NotFound(w, q)
	}
}

// serve gives the path of a socket where r answers.
func (r *recording) serve(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "recording-") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: r}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "s")
}

// openFiles gives the regular files that a process has open, with their sizes. One
// without a name is told as where it was made, "… (deleted)".
func openFiles(t *testing.T, pid int) map[string]int64 {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]int64{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil || strings.HasPrefix(to, "/sys/") || strings.HasPrefix(to, "anon_inode:") {
			continue // closed meanwhile, or the Go runtime's
		}
		if info, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && info.Mode().IsRegular() {
			files[to] += info.Size()
		}
	}
	return files
}

// TestStreamsNeedNoFile copies what a daemon sends, in its order and in the
// opposite, and looks at each part which files the program has open: none but those
// that are the destination's own. The folder for temporary files isn't there.
func TestStreamsNeedNoFile(t *testing.T) {
	t.Parallel()
	d := map[string]daemontest.Daemon{"docker": daemontest.Docker(t), "podman": daemontest.Podman(t)}
	const ref = "example.com/streamed/app:v1"
	// Layers over 512 KiB, which aren't held in memory.
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 3<<20), imagetest.Files(map[string]string{"a": "b"}), imagetest.Random(2, 2<<20), imagetest.Random(3, 1<<20))
	archive := filepath.Join(t.TempDir(), "image.tar")
	processed(t, "ocidir://"+layoutOf(t, img)+":v1", "tar://"+archive+":"+ref)
	far := startRegistry(t, nil)
	var want oci.Digest
	for name, daemon := range d {
		daemon.Do(t, "load", "--input", archive)
		r := record(t, daemon, ref)
		for order, r := range map[string]*recording{"in order": r, "reversed": r.reversed()} {
			uri := "docker://" + ref + "?socket=" + r.serve(t)
			t.Run(name+" "+order+" to tar", func(t *testing.T) { // which puts layers aside: this would be seen
				dir := t.TempDir()
				if seen := streamedTo(t, r, dir, uri, "tar://"+filepath.Join(dir, "out")+":"+ref, "tar"); len(seen) == 0 {
					t.Error("nothing was seen of what waits")
				}
			})
			for _, to := range []string{"registry", "ocidir", "oci-archive", "dir"} {
				t.Run(name+" "+order+" to "+to, func(t *testing.T) {
					dir := t.TempDir()
					out := filepath.Join(dir, "out")
					dest := to + "://" + out + ":v1"
					repo := repositoryOf(dir)
					switch to {
					case "registry":
						dest = "registry://" + far.host + "/" + repo + ":v1"
					case "dir":
						dest = "dir://" + out
					}
					for _, file := range streamedTo(t, r, dir, uri, dest, to) {
						t.Error(file)
					}
					switch to {
					case "dir":
						m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
						if err != nil {
							t.Fatal(err)
						}
						for _, id := range append(diffIDsOf(t, img), m.Config.Digest) {
							if !walkDir(t, out).blobs[id] {
								t.Errorf("it lacks %s", id)
							}
						}
						return
					case "ocidir":
					case "registry":
						seeLayers(t, far.host+"/"+repo+":v1")
						fallthrough
					default:
						again := filepath.Join(dir, "again")
						processed(t, dest, "ocidir://"+again+":v1")
						out = again
					}
					valid(t, out)
					if got := onlyDigest(t, out); want == "" {
						want = got
					} else if got != want {
						t.Errorf("it is %s, by other ways it was %s", got, want)
					}
				})
			}
		}
	}
}

// streamedTo runs process from r at uri to dest, which is below dir if it is on the
// disk. It gives the files that were open and are no part of what dest is to have.
func streamedTo(t *testing.T, r *recording, dir, uri, dest, kind string) (seen []string) {
	t.Helper()
	started := make(chan int, 1)
	looked, waits := 0, int64(0)
	var once sync.Once
	var pid int
	r.mu.Lock()
	r.saves = 0
	r.behind = func() {
		once.Do(func() { pid = <-started })
		time.Sleep(20 * time.Millisecond) // it reads what there is
		looked++
		unnamed := int64(0)
		for file, size := range openFiles(t, pid) {
			own := kind != "registry" && strings.HasPrefix(file, dir+"/")
			noName := strings.HasSuffix(file, "(deleted)")
			if noName {
				unnamed += size
			}
			if !own || noName && kind != "oci-archive" {
				seen = append(seen, fmt.Sprintf("at part %d it has open %s of %d bytes", looked, file, size))
			}
		}
		waits = max(waits, unnamed)
	}
	r.mu.Unlock()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), tool(t), "process", "--quiet", "--plain-http", uri, dest)
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "none")}
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started <- cmd.Process.Pid
	if err := cmd.Wait(); err != nil || out.Len() > 0 {
		t.Fatalf("%v\n%s", err, &out)
	}
	if kind == "oci-archive" { // a tar has sizes in front, so blobs wait beside it, once each and as they will be in it
		if info, err := os.Stat(filepath.Join(dir, "out")); err != nil || waits > info.Size() {
			t.Errorf("%d bytes waited for an archive of fewer, %v", waits, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.saves != 1 || looked != len(r.parts) {
		t.Errorf("the image was asked for %d times, and %d of %d parts looked at", r.saves, looked, len(r.parts))
	}
	return seen
}
