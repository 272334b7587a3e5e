package quay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A far is a Quay with the repository org/app, which alice administers and bob
// may not write, with the tag v1 on first and a clock that tests turn.
type far struct {
	*quaytest.Server
	host          string
	clock         time.Time
	first, second imagetest.Image
	alice         *quay.Client
}

func newFar(t *testing.T, o quaytest.Options) *far {
	t.Helper()
	f := &far{
		clock:  time.Now().UTC().Truncate(time.Second), // Date is net/http's
		first:  imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 100)),
		second: imagetest.New(imagetest.Linux, nil, imagetest.Random(2, 100)),
	}
	o.Now = func() time.Time { return f.clock }
	f.Server = quaytest.New(o)
	f.CreateUser("alice", "secret")
	f.CreateUser("bob", "secret")
	f.CreateOrg("org", "alice")
	if err := f.CreateRepository("org", "app", true); err != nil {
		t.Fatal(err)
	}
	f.push(t, "v1", f.first)
	run := f.Start()
	t.Cleanup(run.Close)
	f.host = run.Host
	f.alice = f.client(f.AddToken("alice", "repo:admin"))
	return f
}

func (f *far) client(token string) *quay.Client {
	return &quay.Client{Host: f.host, Token: token, HTTP: http.DefaultClient, PlainHTTP: true}
}

func (f *far) push(t *testing.T, tag string, img imagetest.Image) {
	t.Helper()
	if err := f.Push(t.Context(), "org/app", tag, img); err != nil {
		t.Fatal(err)
	}
}

// writes are all writes of a client, by name.
func writes(c *quay.Client) map[string]func(ctx context.Context, repo, tag string, d oci.Digest) error {
	return map[string]func(ctx context.Context, repo, tag string, d oci.Digest) error{
		"delete": func(ctx context.Context, repo, tag string, _ oci.Digest) error { return c.DeleteTag(ctx, repo, tag) },
		"restore": func(ctx context.Context, repo, tag string, d oci.Digest) error {
			return c.RestoreTag(ctx, repo, tag, d)
		},
		"expire": func(ctx context.Context, repo, tag string, _ oci.Digest) error {
			_, err := c.ChangeExpiration(ctx, repo, tag, time.Time{})
			return err
		},
		"delete repository": func(ctx context.Context, repo, _ string, _ oci.Digest) error { return c.DeleteRepository(ctx, repo) },
	}
}

func TestDeleteTag(t *testing.T) {
	f := newFar(t, quaytest.Options{})
	f.push(t, "v2", f.first)
	t.Run("A48 a tag that is there", func(t *testing.T) {
		if err := f.alice.DeleteTag(t.Context(), "org/app", "v1"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.alice.Tag(t.Context(), "org/app", "v1"); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("v1 is still there: %v", err)
		}
		if _, err := f.alice.Tag(t.Context(), "org/app", "v2"); err != nil {
			t.Errorf("v2 of the same digest: %v", err)
		}
	})
	// Whoever deletes says whether that matters: publish counts it as done.
	t.Run("A48 404 is told apart", func(t *testing.T) {
		if err := f.alice.DeleteTag(t.Context(), "org/app", "v1"); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("A48 401 is an error", func(t *testing.T) {
		c := serve(t, reply(401, `{"detail":"Requires authentication","error_type":"invalid_token"}`))
		if err := c.DeleteTag(t.Context(), "org/app", "v1"); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRestoreTag(t *testing.T) {
	f := newFar(t, quaytest.Options{})
	f.clock = f.clock.Add(time.Minute)
	f.push(t, "v1", f.second) // first has no tag now
	f.clock = f.clock.Add(time.Minute)
	for _, tag := range []string{"v1", "never-there"} {
		if err := f.alice.RestoreTag(t.Context(), "org/app", tag, f.first.Desc.Digest); err != nil {
			t.Fatal(err)
		}
		got, err := f.alice.Tag(t.Context(), "org/app", tag)
		if err != nil || got.Digest != f.first.Desc.Digest || !got.Reversion {
			t.Errorf("%s: got %+v, %v", tag, got, err)
		}
	}
	if err := f.alice.RestoreTag(t.Context(), "org/app", "v1", digest1); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("what Quay never had: %v", err)
	}
}

func TestChangeExpiration(t *testing.T) {
	f := newFar(t, quaytest.Options{})
	start := f.clock
	tests := []struct {
		name     string
		at, want time.Time
	}{
		{"as asked", start.Add(48*time.Hour + 700*time.Millisecond), start.Add(48 * time.Hour)},
		{"not before an hour", start.Add(time.Minute), start.Add(time.Hour)},
		{"not behind 104 weeks", start.Add(2000 * 24 * time.Hour), start.Add(104 * 7 * 24 * time.Hour)},
		{"never", time.Time{}, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.alice.ChangeExpiration(t.Context(), "org/app", "v1", tt.at)
			if err != nil || !got.Equal(tt.want) {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	if _, err := f.alice.ChangeExpiration(t.Context(), "org/app", "v1", start.Add(-time.Hour)); err == nil {
		t.Error("a time that is past")
	}
	if _, err := f.alice.ChangeExpiration(t.Context(), "org/app", "v9", time.Time{}); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
}

func TestDeleteRepository(t *testing.T) {
	f := newFar(t, quaytest.Options{})
	for _, what := range []string{"A48 one that is there", "A48 one that is gone, which Quay answers alike"} {
		t.Run(what, func(t *testing.T) {
			if err := f.alice.DeleteRepository(t.Context(), "org/app"); err != nil {
				t.Fatal(err)
			}
			if _, err := f.alice.Repository(t.Context(), "org/app"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
	t.Run("A48 500 is an error", func(t *testing.T) {
		if err := serve(t, reply(500, "")).DeleteRepository(t.Context(), "org/app"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("A48 200 is fine", func(t *testing.T) {
		if err := serve(t, reply(200, "")).DeleteRepository(t.Context(), "org/app"); err != nil {
			t.Error(err)
		}
	})
}

// Anonymous writes, and those with a token that Quay doesn't know, are 403 and not
// 401; the words say what it needs.
func TestWritesNeedAToken(t *testing.T) {
	f := newFar(t, quaytest.Options{})
	robot := f.AddRobot("org", "bot")
	for who, token := range map[string]string{"nobody": "", "unknown": "garbage", "a robot": robot, "a stranger": f.AddToken("bob", "repo:admin")} {
		for what, write := range writes(f.client(token)) {
			err := write(t.Context(), "org/app", "v1", f.first.Desc.Digest)
			if !errors.Is(err, oci.ErrDenied) || quay.NotVisible(err) {
				t.Errorf("%s, %s: %v", who, what, err)
			}
			if strings.Contains(fmt.Sprint(err), "OAuth application token") != (who != "a stranger") {
				t.Errorf("%s, %s is told %v", who, what, err)
			}
		}
	}
	if got, err := f.alice.Tag(t.Context(), "org/app", "v1"); err != nil || got.Digest != f.first.Desc.Digest {
		t.Errorf("v1 is %+v, %v", got, err)
	}
}

// A 503 to a write of tags is a state, which no retry ends.
func TestWritesOfAReadOnlyRepository(t *testing.T) {
	states := map[string]string{"READ_ONLY": "the repository is read-only", "MIRROR": "the repository is a mirror", "ORG_MIRROR": "the organisation is a mirror"}
	for state, hint := range states {
		f := newFar(t, quaytest.Options{RepoMirror: true, OrgMirror: true})
		if err := f.SetState("org/app", state); err != nil {
			t.Fatal(err)
		}
		for what, write := range writes(f.alice) {
			if what == "delete repository" {
				continue // that is no write of tags
			}
			err := write(t.Context(), "org/app", "v1", f.first.Desc.Digest)
			if !errors.Is(err, oci.ErrDenied) || !strings.Contains(fmt.Sprint(err), "not an outage ("+hint+")") {
				t.Errorf("%s in %s: %v", what, state, err)
			}
		}
	}
	outage := serve(t, reply(503, "<html><title>503 Service Temporarily Unavailable</title></html>"))
	if err := outage.DeleteTag(t.Context(), "org/app", "v1"); errors.Is(err, oci.ErrDenied) {
		t.Errorf("an outage: %v", err)
	}
	whole := serve(t, reply(503, `{"message": "System is currently read-only. Pulls will succeed.", "is_readonly": true}`))
	if err := whole.DeleteTag(t.Context(), "org/app", "v1"); !errors.Is(err, oci.ErrDenied) {
		t.Errorf("a Quay that is read-only: %v", err)
	}
}

func TestImmutableTag(t *testing.T) {
	body := `{"detail":"Cannot delete immutable tag 'v1'","error_type":"tag_immutable","status":409}`
	for what, write := range writes(serve(t, reply(409, body))) {
		if err := write(t.Context(), "org/app", "v1", digest1); !errors.Is(err, quay.ErrImmutable) || !strings.Contains(err.Error(), "immutable tag 'v1'") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nested names stay as they are, the digest goes in the body, and no path ends in a
// slash: with one it would be another route.
func TestTagWriteRequests(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			asked = append(asked, r.Method+" "+r.URL.EscapedPath())
		}
		w.WriteHeader(http.StatusNoContent)
	})
	for _, write := range writes(c) {
		_ = write(t.Context(), "o/a/b", "v1", digest1)
	}
	slices.Sort(asked)
	want := []string{
		"DELETE /api/v1/repository/o/a/b", "DELETE /api/v1/repository/o/a/b/tag/v1",
		"POST /api/v1/repository/o/a/b/tag/v1/restore", "PUT /api/v1/repository/o/a/b/tag/v1",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

func TestTagWritesCheckNames(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("requested %s", r.URL) })
	for what, write := range writes(c) {
		for _, repo := range []string{"", "o", "o/../x", "o/a?b", "O/a"} {
			if err := write(t.Context(), repo, "v1", digest1); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%s in %q: %v", what, repo, err)
			}
		}
		if what == "delete repository" {
			continue
		}
		if err := write(t.Context(), "o/r", "a/b", digest1); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%s of a/b: %v", what, err)
		}
	}
	if err := c.RestoreTag(t.Context(), "o/r", "v1", "sha256:../.."); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}
