package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// day gives a time in the past that Quay takes for a tag's start.
func day(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC) }

// image makes a small image; equal seeds give equal images.
func image(seed uint64) imagetest.Image {
	return imagetest.New(imagetest.Linux, map[string]string{"seed": fmt.Sprint(seed)}, imagetest.Random(seed, 16))
}

// start serves s for the length of the test.
func start(t *testing.T, s *quaytest.Server) *quaytest.Run {
	t.Helper()
	run := s.Start()
	t.Cleanup(run.Close)
	return run
}

// fill gives s one public repository with its tags, all on images of their own.
func fill(t *testing.T, s *quaytest.Server, repo string, tags ...quaytest.BulkTag) {
	t.Helper()
	ns, name, _ := strings.Cut(repo, "/")
	err := s.BulkRepositories(t.Context(), ns, 1, func(int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: name, Tags: tags}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func tag(name string, seed uint64, start time.Time) quaytest.BulkTag {
	return quaytest.BulkTag{Name: name, Image: image(seed), Start: start}
}

// env is what a discovery of host is opened with.
func env(host string) backend.Env {
	return backend.Env{HTTP: http.DefaultClient, PlainHTTP: true, QuayHost: host}
}

// open opens a source URI.
func open(t *testing.T, uri string, e backend.Env) (backend.Images, error) {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	k, err := discover.Table.Find(u.Scheme, "source")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.CheckOptions(u); err != nil {
		return nil, err
	}
	return k.Source(t.Context(), u, e)
}

func mustOpen(t *testing.T, uri string, e backend.Env) backend.Images {
	t.Helper()
	images, err := open(t, uri, e)
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// names lists images as repository:tag, without the organisation.
func names(ctx context.Context, images backend.Images) (list []string, err error) {
	for item, err := range images.Discover(ctx) {
		if err != nil {
			return list, err
		}
		_, name, _ := strings.Cut(item.Ref.Repository, "/")
		list = append(list, name+":"+item.Ref.Tag)
	}
	return list, nil
}

func listing(images backend.Images) oci.Listing { return images.(oci.Lister).Listing() }

// The first stage of since costs no request by repository.
func TestQuayCountsRequests(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	img := image(1)
	err := s.BulkRepositories(t.Context(), "kolla", 1876, func(i int) quaytest.BulkRepository {
		r := quaytest.BulkRepository{Name: fmt.Sprintf("r-%04d", (i*769)%1876), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: day(1)}}}
		switch {
		case i%31 == 0 && i < 60*31: // 60 of them
			r.Tags[0].Start = day(20)
		case i == 1:
			r.Tags = nil // last_modified is null
		}
		return r
	})
	if err != nil {
		t.Fatal(err)
	}
	s.CreateUser("alice", "")
	e := env(start(t, s).Host)
	e.APIToken = s.AddToken("alice", "repo:read")
	images := mustOpen(t, "quay://kolla?since=2026-01-20", e)
	s.Reset()
	first, err := names(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 60 || !slices.IsSorted(first) {
		t.Errorf("%d images, sorted: %v", len(first), slices.IsSorted(first))
	}
	got := s.Counts()
	if got["api.repositories"] != 19 || got["api.tags"] > 60 || got["api.probe"] != 1 || len(got) != 3 {
		t.Errorf("requests %v, want 19 listings, at most 60 tags, one probe", got)
	}
	if l := listing(images); l.Found != 60 || !l.Done || l.Repositories != 1876 || l.Anonymous {
		t.Errorf("listing %+v", l)
	}
	if second, err := names(t.Context(), images); err != nil || !slices.Equal(first, second) {
		t.Errorf("another order the second time: %v", err)
	}
}

func TestQuayItem(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	img := image(1)
	index := imagetest.Index(img, image(2))
	fill(t, s, "o/team/svc", quaytest.BulkTag{Name: "v1", Image: img, Start: day(3)}, quaytest.BulkTag{Name: "multi", Image: index, Start: day(4)})
	expires := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	if err := s.SetTag("o/team/svc", "soon", img.Desc.Digest, day(5), expires); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTag("o/team/svc", "dead", img.Desc.Digest, day(5), day(6)); err != nil {
		t.Fatal(err)
	}
	host := start(t, s).Host
	e := env("elsewhere.example")
	var opened oci.Ref
	e.Open = func(_ context.Context, ref oci.Ref) (oci.Source, error) { opened = ref; return nil, nil }
	images := mustOpen(t, "quay://o/*:*?host="+host, e)
	item := func(tag string, d oci.Digest, isIndex bool, bytes int64, set, expires time.Time) oci.Item {
		return oci.Item{Ref: oci.Ref{Registry: host, Repository: "o/team/svc", Tag: tag}, Desc: oci.Descriptor{Digest: d}, IsIndex: isIndex, Bytes: bytes, Set: set, Expires: expires}
	}
	size := int64(0)
	for d, b := range img.Blobs { // the config apart
		if !strings.HasPrefix(string(b), "{") && d != "" {
			size += int64(len(b))
		}
	}
	want := []oci.Item{
		item("multi", index.Desc.Digest, true, -1, day(4), time.Time{}),
		item("soon", img.Desc.Digest, false, size, day(5), expires),
		item("v1", img.Desc.Digest, false, size, day(3), time.Time{}),
	}
	var got []oci.Item
	for it, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, it)
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if l := listing(images); !l.Anonymous || l.Found != 3 {
		t.Errorf("listing %+v", l)
	}
	if _, err := images.Source(t.Context(), want[0]); err != nil || opened != want[0].Ref {
		t.Errorf("opened %v, %v", opened, err)
	}
	if !images.Bulk() {
		t.Error("not bulk")
	}
}

// One repository that isn't visible doesn't stop the others.
func TestQuayHidden(t *testing.T) {
	var fault func(*http.Request) quaytest.Fault
	s := quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if fault != nil {
			return fault(r)
		}
		return quaytest.Fault{}
	}})
	s.CreateUser("alice", "")
	s.CreateOrg("o", "alice")
	for _, repo := range []string{"o/a", "o/b", "o/c", "o/d"} {
		fill(t, s, repo, tag("latest", 1, day(1)), tag("v1", 1, day(1)))
	}
	for _, name := range []string{"p", "q"} {
		if err := s.CreateRepository("o", name, false); err != nil {
			t.Fatal(err)
		}
	}
	e := env(start(t, s).Host)
	// Such a token sees private names in the listing and may read none.
	e.APIToken = s.AddToken("alice", "repo:create")
	for _, uri := range []string{"quay://o", "quay://o/*:v*"} {
		images := mustOpen(t, uri, e)
		got, err := names(t.Context(), images)
		if err != nil || len(got) != 4 {
			t.Errorf("%s: got %v, %v", uri, got, err)
		}
		if l := listing(images); fmt.Sprint(l.Hidden) != "[o/p o/q]" || !l.Done {
			t.Errorf("%s: listing %+v", uri, l)
		}
	}
	for _, status := range []int{401, 403, 404} {
		fault = func(r *http.Request) quaytest.Fault {
			if strings.HasPrefix(r.URL.Path, "/api/v1/repository/o/b/") {
				return quaytest.Fault{Status: status}
			}
			return quaytest.Fault{}
		}
		e.APIToken = ""
		images := mustOpen(t, "quay://o", e)
		got, err := names(t.Context(), images)
		if err != nil || fmt.Sprint(got) != "[a:latest c:latest d:latest]" || fmt.Sprint(listing(images).Hidden) != "[o/b]" {
			t.Errorf("%d: got %v, %v, %+v", status, got, err, listing(images))
		}
	}
}

// An error among the tags ends the listing; what was found before is given.
func TestQuayTagsFail(t *testing.T) {
	s := quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if strings.HasPrefix(r.URL.Path, "/api/v1/repository/o/r-500/") {
			return quaytest.Fault{Status: 500}
		}
		return quaytest.Fault{}
	}})
	img := image(1)
	err := s.BulkRepositories(t.Context(), "o", 1000, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%03d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: day(1)}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	images := mustOpen(t, "quay://o", env(start(t, s).Host))
	got, err := names(t.Context(), images)
	if !errors.Is(err, oci.ErrIncomplete) || !strings.Contains(err.Error(), "o/r-500") {
		t.Errorf("got %v", err)
	}
	if len(got) < 500 || len(got) > 600 || got[499] != "r-499:latest" || !slices.IsSorted(got) {
		t.Errorf("%d images before the error", len(got))
	}
	if l := listing(images); l.Done || l.Found != len(got) {
		t.Errorf("%d given, listing %+v", len(got), l)
	}
	if n := s.Counts()["api.tags"]; n > 600 {
		t.Errorf("%d requests", n)
	}
}

// Quay answers a page token that it doesn't take with the first page.
func TestQuayPageLoop(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	img := image(1)
	err := s.BulkRepositories(t.Context(), "o", 250, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%03d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: day(1)}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	looping := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("next_page") {
			q.Set("next_page", "bogus")
			r.URL.RawQuery = q.Encode()
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(looping.Close)
	got, err := names(t.Context(), mustOpen(t, "quay://o", env(strings.TrimPrefix(looping.URL, "http://"))))
	if !errors.Is(err, oci.ErrIncomplete) || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if n := s.Counts()["api.repositories"]; n > 3 {
		t.Errorf("%d pages", n)
	}
}

func TestQuayToken(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	s.CreateUser("alice", "")
	s.CreateOrg("o", "alice")
	err := s.BulkRepositories(t.Context(), "o", 1, func(int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: "private", Private: true, Tags: []quaytest.BulkTag{tag("latest", 1, day(1))}}
	})
	if err != nil {
		t.Fatal(err)
	}
	good := s.AddToken("alice", "repo:read")
	host := start(t, s).Host
	tests := []struct {
		name, uri, env string
		want           string
		err            error
	}{
		{"anonymous", "quay://o", "", "[]", nil},
		{"environment", "quay://o", good, "[private:latest]", nil},
		{"option before environment", "quay://o?token=" + good, "bad", "[private:latest]", nil},
		{"bad option", "quay://o?token=garbage", good, "[]", oci.ErrDenied},
		{"expired", "quay://o", s.AddTokenUntil("alice", day(1), "repo:read"), "[]", oci.ErrDenied},
		{"robot", "quay://o", s.AddRobot("o", "bot"), "[]", oci.ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Reset()
			e := env(host)
			e.APIToken = tt.env
			got, err := names(t.Context(), mustOpen(t, tt.uri, e))
			if fmt.Sprint(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %v, %v, want %s, %v", got, err, tt.want, tt.err)
			}
			if tt.err == nil {
				return
			}
			if errors.Is(err, oci.ErrIncomplete) || !strings.Contains(err.Error(), "OAuth application") || strings.Contains(err.Error(), "garbage") {
				t.Errorf("text %v", err)
			}
			if n := s.Counts()["api.repositories"]; n != 0 {
				t.Errorf("%d listings with a bad token", n)
			}
		})
	}
}

func TestQuayWithoutAnonymousAccess(t *testing.T) {
	s := quaytest.New(quaytest.Options{NoAnonymousAccess: true})
	fill(t, s, "o/a", tag("latest", 1, day(1)))
	_, err := names(t.Context(), mustOpen(t, "quay://o", env(start(t, s).Host)))
	if !errors.Is(err, oci.ErrDenied) || !errors.Is(err, oci.ErrIncomplete) || !strings.Contains(err.Error(), "--quay-api-token") {
		t.Errorf("got %v", err)
	}
}

func TestQuayUnreachable(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	host := strings.TrimPrefix(closed.URL, "http://")
	for _, token := range []string{"", "x"} {
		e := env(host)
		e.APIToken = token
		_, err := names(t.Context(), mustOpen(t, "quay://o", e))
		if !errors.Is(err, oci.ErrIncomplete) || !strings.Contains(err.Error(), host) || strings.Count(err.Error(), "refused") != 1 {
			t.Errorf("got %v", err)
		}
	}
}

// Whoever stops in the middle finds every goroutine gone.
func TestQuayStops(t *testing.T) {
	s := quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if strings.HasSuffix(r.URL.Path, "9/tag/") {
			return quaytest.Fault{Delay: time.Hour} // answers only when the client goes away
		}
		return quaytest.Fault{}
	}})
	img := image(1)
	err := s.BulkRepositories(t.Context(), "o", 300, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%03d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: day(1)}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	host := start(t, s).Host
	t.Run("break", func(t *testing.T) {
		n := 0
		for range mustOpen(t, "quay://o", env(host)).Discover(t.Context()) {
			if n++; n == 5 {
				break
			}
		}
		noWorkers(t)
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for _, err := range mustOpen(t, "quay://o", env(host)).Discover(ctx) {
			if n++; n == 5 {
				cancel()
			}
			last = err
		}
		if !errors.Is(last, context.Canceled) || !errors.Is(last, oci.ErrIncomplete) {
			t.Errorf("got %v", last)
		}
		noWorkers(t)
	})
	t.Run("cancel while listing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := names(ctx, mustOpen(t, "quay://o", env(host))); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		noWorkers(t)
	})
}

// noWorkers looks for goroutines that were started by the package.
func noWorkers(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	for g := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(g, "quaymaster/discover.ahead") {
			t.Errorf("still there:\n%s", g)
		}
	}
}

// At most Parallel requests at once.
func TestQuayParallel(t *testing.T) {
	var counter gauge
	s := quaytest.New(quaytest.Options{})
	img := image(1)
	err := s.BulkRepositories(t.Context(), "o", 60, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%03d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: day(1)}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer counter.enter()()
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	e := env(strings.TrimPrefix(server.URL, "http://"))
	e.Parallel = 3
	if got, err := names(t.Context(), mustOpen(t, "quay://o", e)); err != nil || len(got) != 60 {
		t.Errorf("%d images, %v", len(got), err)
	}
	if n := counter.most(); n > 3 {
		t.Errorf("%d requests at once", n)
	}
}
