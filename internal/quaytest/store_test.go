package quaytest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

func openDisk(t *testing.T, dir string) *quaytest.Disk {
	t.Helper()
	s, err := quaytest.OpenDisk(dir)
	check(t, err)
	return s
}

// TestDiskReopened: content, users and tags are there when the folder and what
// Save wrote are opened again.
func TestDiskReopened(t *testing.T) {
	dir := t.TempDir()
	first := quaytest.New(quaytest.Options{Store: openDisk(t, dir)})
	first.CreateUser("alice", "secret")
	check(t, first.Push(t.Context(), "pub/app", "v1", multi))
	check(t, first.Push(t.Context(), "pub/team/svc", "v1", image1))
	check(t, first.DeleteTag("pub/team/svc", "v1"))
	token := first.AddToken("alice", "repo:read")
	var saved bytes.Buffer
	check(t, first.Save(&saved))

	second := quaytest.New(quaytest.Options{Store: openDisk(t, dir)})
	check(t, second.Load(&saved))
	run := second.Start()
	defer run.Close()
	e := &env{base: run.URL, host: run.Host}
	r := e.get(t, "/v2/pub/app/manifests/v1", "", "Accept: "+multi.Desc.MediaType)
	want(t, "index", r.body, string(multi.Raw))
	r = e.get(t, "/v2/pub/app/blobs/"+string(base.Desc.Digest), "")
	want(t, "layer", e.get(t, r.header.Get("Location"), "").body, string(base.Bytes))
	v2Error(t, e.get(t, "/v2/pub/team/svc/manifests/v1", ""), 404, "TAG_EXPIRED")
	want(t, "status of the token", e.get(t, repositories+"?starred=true", "Bearer "+token).status, 200)
	check(t, second.Push(t.Context(), "pub/third", "v1", image1)) // its ID is new
	want(t, "tags", len(names(e.tags(t, "pub/app", ""))), 1)
}

// TestDisk holds the store itself to the interface's contract.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	s, ctx := openDisk(t, dir), t.Context()
	content := []byte("content")
	d := digest.FromBytes(content)
	if _, err := s.ResolveBlob(ctx, "a/b", d); !errors.Is(err, ociregistry.ErrNameUnknown) {
		t.Errorf("no repository: got %v", err)
	}
	_, err := s.PushBlob(ctx, "a/b", oci.Descriptor{Digest: d, Size: 7}, bytes.NewReader(content))
	check(t, err)
	if _, err := s.PushBlob(ctx, "a/b", oci.Descriptor{Digest: d, Size: 5}, bytes.NewReader(content[:5])); !errors.Is(err, ociregistry.ErrDigestInvalid) {
		t.Errorf("wrong content: got %v", err)
	}
	if _, err := s.ResolveBlob(ctx, "a", d); !errors.Is(err, ociregistry.ErrNameUnknown) {
		t.Errorf("the parent's name: got %v", err)
	}
	_, err = s.MountBlob(ctx, "a/b", "c", d)
	check(t, err)
	rd, err := s.GetBlobRange(ctx, "c", d, 3, 5)
	check(t, err)
	part, err := io.ReadAll(rd)
	check(t, errors.Join(err, rd.Close()))
	want(t, "range", string(part), "te")
	if _, err := s.GetBlobRange(ctx, "c", d, 9, -1); !errors.Is(err, ociregistry.ErrRangeInvalid) {
		t.Errorf("a range behind the end: got %v", err)
	}
	check(t, s.DeleteBlob(ctx, "c", d))
	if err := s.DeleteBlob(ctx, "c", d); !errors.Is(err, ociregistry.ErrBlobUnknown) {
		t.Errorf("deleted: got %v", err)
	}
	w, err := s.PushBlobChunked(ctx, "a/b", 0)
	check(t, err)
	_, err = w.Write(content)
	check(t, err)
	if _, err := w.Commit(digest.FromString("other")); !errors.Is(err, ociregistry.ErrDigestInvalid) {
		t.Errorf("wrong digest: got %v", err)
	}
	check(t, w.Cancel())
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	check(t, err)
	want(t, "files of uploads", len(left), 0)
	var repos []string
	for name, err := range s.Repositories(ctx, "") {
		check(t, err)
		repos = append(repos, name)
	}
	want(t, "repositories", repos, []string{"a/b", "c"})
}

// TestDiskStreams: 256 MiB go in and out without being held.
func TestDiskStreams(t *testing.T) {
	const size, limit = 256 << 20, 32 << 20
	content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
	h := digest.SHA256.Digester()
	_, err := io.Copy(h.Hash(), content())
	check(t, err)
	s := quaytest.New(quaytest.Options{Store: openDisk(t, t.TempDir())})
	s.CreateUser("alice", "secret")
	s.CreateOrg("org", "alice")
	run := s.Start()
	defer run.Close()
	e := &env{base: run.URL, host: run.Host, user: "alice", password: "secret"}
	auth := e.mine(t, "org/big")

	peak := watchHeap(t)
	r := e.send(t, "POST", "/v2/org/big/blobs/uploads/", auth, nil)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", withDigest(t, r.header.Get("Location"), h.Digest()), content())
	check(t, err)
	req.Header.Set("Authorization", auth)
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	check(t, resp.Body.Close())
	want(t, "status of PUT", resp.StatusCode, 201)
	r = e.get(t, "/v2/org/big/blobs/"+string(h.Digest()), auth)
	resp, err = http.Get(r.header.Get("Location"))
	check(t, err)
	back := digest.SHA256.Digester()
	_, err = io.Copy(back.Hash(), resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	want(t, "digest", back.Digest(), h.Digest())
	if got := peak(); got > limit {
		t.Errorf("the heap grew by %d MiB for a blob of %d MiB, want at most %d", got>>20, size>>20, limit>>20)
	}
	want(t, "transfers", s.Transfers().Gets[quaytest.Blob{Repository: "org/big", Digest: h.Digest()}], 1)
}

// watchHeap measures by how much the heap grows until the function that it
// returns is called.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var before, peak uint64
	sample := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before = sample()
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			peak = max(peak, sample())
			<-tick.C
		}
	})
	return func() uint64 {
		stop()
		wg.Wait()
		return peak - min(before, peak)
	}
}

// TestConcurrentPushes pushes images that share layers into few repositories,
// into both stores at once.
func TestConcurrentPushes(t *testing.T) {
	for name, o := range map[string]quaytest.Options{"memory": {}, "disk": {Store: openDisk(t, t.TempDir())}} {
		t.Run(name, func(t *testing.T) {
			s := quaytest.New(o)
			s.CreateUser("alice", "secret")
			s.CreateOrg("org", "alice")
			token := s.AddToken("alice", "repo:read")
			run := s.Start()
			defer run.Close()
			e := &env{base: run.URL, host: run.Host, user: "alice", password: "secret"}
			auths := make([]string, 3)
			for i := range auths {
				auths[i] = e.mine(t, fmt.Sprintf("org/r%d", i))
			}
			const pushes = 24
			errs := make([]error, pushes)
			var wg sync.WaitGroup
			for i := range pushes {
				wg.Go(func() {
					n := i % len(auths)
					errs[i] = multi.Push(t.Context(), run.URL, fmt.Sprintf("org/r%d", n), fmt.Sprintf("v%d", i), auths[n])
				})
			}
			for range 5 {
				e.get(t, repositories+"?namespace=org&last_modified=true", "Bearer "+token)
			}
			wg.Wait()
			check(t, errors.Join(errs...))
			total := 0
			for i := range auths {
				r := e.get(t, api(fmt.Sprintf("org/r%d", i))+"/tag/?onlyActiveTags=true", "Bearer "+token)
				total += len(list(r.json(t), "tags"))
			}
			want(t, "tags", total, pushes)
		})
	}
}
