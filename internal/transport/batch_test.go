package transport

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// expectAll says that n repositories will be needed.
func expectAll(t *testing.T, c *http.Client, base, actions string, n int) {
	t.Helper()
	for i := range n {
		Expect(c, mustURL(t, base), fmt.Sprintf("repository:org/r%02d:%s", i, actions))
	}
}

func manifestOf(base string, i int) string {
	return fmt.Sprintf("%s/v2/org/r%02d/manifests/v1", base, i)
}

// readAll reads from n repositories, atOnce at a time, and fails for each that
// isn't answered with 200.
func readAll(t *testing.T, c *http.Client, base string, n, atOnce int) {
	t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				if status, _, err := try(c, "GET", manifestOf(base, i), ""); err != nil || status != 200 {
					t.Errorf("repository %d: got %d, %v", i, status, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// refusals counts requests to repositories that had to be repeated.
func refusals(reg *fakeRegistry, n int) int { return len(reg.all("/v2/org/")) - n }

func TestTokensOfFortyRepositories(t *testing.T) {
	tests := []struct {
		name        string
		set         func(*fakeRegistry)
		tokens, bad int // requests for tokens, and to repositories that were refused: at most
	}{
		{"JWT for several", func(*fakeRegistry) {}, 2, 0},
		{"opaque, for several", func(r *fakeRegistry) { r.opaque = true }, 2, 0},
		{"JWT for one", func(r *fakeRegistry) { r.most = 1 }, 40, 0},
		{"opaque, for one", func(r *fakeRegistry) { r.opaque, r.most = true, 1 }, 40, 4},
		{"JWT for five", func(r *fakeRegistry) { r.most = 5 }, 36, 0},
		{"several are refused", func(r *fakeRegistry) { r.whole, r.most = true, 1 }, 40 + maxRefusals, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := newFakeRegistry(t)
			tt.set(reg)
			c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
			expectAll(t, c, reg.URL, "pull", 40)
			readAll(t, c, reg.URL, 40, 4)
			if n := len(reg.all("/v2/auth")); n > tt.tokens {
				t.Errorf("got %d token requests, want at most %d", n, tt.tokens)
			}
			if n := refusals(reg, 40); n > tt.bad {
				t.Errorf("%d requests were refused, want at most %d", n, tt.bad)
			}
		})
	}
}

// TestTheFirstRequestMayAskAlone lets a second request ask for the token that the
// first one needs too: a service that grants one repository gives it to the second.
func TestTheFirstRequestMayAskAlone(t *testing.T) {
	reg := &fakeRegistry{tokens: map[string]scopes{}, opaque: true, most: 1}
	met, asked := make(chan struct{}), make(chan struct{})
	reg.recorder = serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if n == 1 { // the rest of its answer comes when the second has its token
			defer func() { <-asked }()
			defer close(met)
			defer func() { _ = http.NewResponseController(w).Flush() }()
		}
		reg.ServeHTTP(w, r)
		if r.URL.Path == "/v2/auth" {
			select {
			case <-asked:
			default:
				close(asked)
			}
		}
	})
	c := newTest(t, Options{}).Client()
	url := func(i int) string { return fmt.Sprintf("%s/v2/public/r%d/manifests/v1", reg.URL, i) }
	for i := range 2 {
		Expect(c, mustURL(t, reg.URL), fmt.Sprintf("repository:public/r%d:pull", i))
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if status, _, err := try(c, "GET", url(i), ""); err != nil || status != 200 {
				t.Errorf("repository %d: got %d, %v", i, status, err)
			}
		})
		<-met
	}
	wg.Wait()
}

// One repository that may not be read is no reason to give up asking for several.
func TestPrivateRepositoryInABatch(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		reg := newFakeRegistry(t)
		reg.closed, reg.opaque = "org/r05", opaque
		c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
		expectAll(t, c, reg.URL, "pull", 40)
		for i := range 40 {
			want := 200
			if i == 5 {
				want = 401
			}
			if status, _ := fetch(t, c, "GET", manifestOf(reg.URL, i)); status != want {
				t.Errorf("repository %d: got %d, want %d", i, status, want)
			}
		}
		if n := len(reg.all("/v2/auth")); n > 3 { // two of twenty, and the closed one by itself
			t.Errorf("opaque %v: got %d token requests, want 3", opaque, n)
		}
	}
}

func TestPushIsNotAskedToPull(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	expectAll(t, c, reg.URL, "pull", 5)
	for i := range 5 {
		Expect(c, mustURL(t, reg.URL), fmt.Sprintf("repository:org/r%02d:pull,push", i), fmt.Sprintf("repository:from/r%02d:pull", i))
	}
	fetch(t, c, "HEAD", manifestOf(reg.URL, 0))
	first := reg.all("/v2/auth")
	if len(first) != 1 || strings.Contains(first[0].query, "push") || strings.Count(first[0].query, "scope=") != 5 {
		t.Errorf("to read: got %+v", first)
	}
	for i := range 5 { // each mounts from a repository of its own
		fetch(t, c, "POST", fmt.Sprintf("%s/v2/org/r%02d/blobs/uploads/?mount=sha256:0&from=from/r%02d", reg.URL, i, i))
	}
	all := reg.all("/v2/auth")
	if len(all) != 2 || strings.Count(all[1].query, "push") != 5 || strings.Count(all[1].query, "from%2F") != 5 {
		t.Errorf("to write: got %+v", all[1:])
	}
}

// Twenty repositories mount from one that nobody expected: one more token, with
// the origin in it, serves all; and the next twenty have it from the start.
func TestMountOriginGoesWithTheBatch(t *testing.T) {
	reg := newFakeRegistry(t)
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	upload := func(i int, query string) {
		t.Helper()
		if status, _ := fetch(t, c, "POST", fmt.Sprintf("%s/v2/org/r%02d/blobs/uploads/%s", reg.URL, i, query)); status != 200 {
			t.Errorf("repository %d: got %d", i, status)
		}
	}
	expectAll(t, c, reg.URL, "pull,push", 30)
	for i := range 30 {
		upload(i, "")
		upload(i, "?mount=sha256:0&from=base/x")
	}
	// Twenty, those with the origin, and the rest with it.
	if n := len(reg.all("/v2/auth")); n > 3 {
		t.Errorf("got %d token requests, want 3", n)
	}
}

// Credentials by path never share a token.
func TestCredentialsByPathShareNoToken(t *testing.T) {
	reg := newFakeRegistry(t)
	logins := map[string]Credential{}
	tr := newTest(t, Options{Credentials: func(_ context.Context, _, repo string) (Credential, error) {
		return logins[repo], nil
	}})
	c := tr.Client()
	for i := range 6 {
		logins[fmt.Sprintf("org/r%02d", i)] = Credential{Username: "bot", Password: "secret"}
	}
	logins["org/r05"] = Credential{Username: "bot", Password: "wrong"}
	expectAll(t, c, reg.URL, "pull", 6)
	readAll(t, c, reg.URL, 5, 1)
	all := reg.all("/v2/auth")
	if len(all) != 1 || strings.Contains(all[0].query, "r05") || strings.Count(all[0].query, "scope=") != 5 {
		t.Errorf("got %+v", all)
	}
	if status, _, err := try(c, "GET", manifestOf(reg.URL, 5), ""); err == nil && status == 200 {
		t.Error("a repository of another login was read with this one's token")
	}
}

// When the token of twenty repositories ends, or is revoked, one takes its place.
func TestBatchIsRenewedAsOne(t *testing.T) {
	for _, how := range []string{"ends", "is revoked"} {
		reg := newFakeRegistry(t)
		tr := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))})
		c := tr.Client()
		expectAll(t, c, reg.URL, "pull", 20)
		readAll(t, c, reg.URL, 20, 4)
		if how == "ends" {
			for _, s := range tr.sessions {
				for _, tok := range s.tokens.order {
					tok.expires = time.Now()
				}
			}
		} else {
			reg.revoke()
		}
		readAll(t, c, reg.URL, 20, 4)
		if n := len(reg.all("/v2/auth")); n != 2 {
			t.Errorf("a token that %s: got %d token requests, want 2", how, n)
		}
	}
}

func TestRevokedOpaqueTokenIsNoNarrowOne(t *testing.T) {
	reg := newFakeRegistry(t)
	reg.opaque = true
	c := newTest(t, Options{Credentials: bot(hostOf(t, reg.URL))}).Client()
	expectAll(t, c, reg.URL, "pull", 20)
	readAll(t, c, reg.URL, 20, 1)
	reg.revoke()
	readAll(t, c, reg.URL, 20, 1)
	if n := len(reg.all("/v2/auth")); n != 2 {
		t.Errorf("got %d token requests, want 2", n)
	}
}

func TestWhatIsExpectedIsBounded(t *testing.T) {
	tr := newTest(t, Options{})
	u := mustURL(t, "https://registry.example.com/v2/")
	for i := range 100_000 {
		Expect(tr.Client(), u, fmt.Sprintf("repository:org/r%d:pull", i))
	}
	Expect(tr.Client(), u, "registry:catalog:*")
	Expect(tr.Client(), u, "")
	Expect(http.DefaultClient, u, "repository:a:pull")
	if n := len(tr.host(u).expected.list); n != maxExpected {
		t.Errorf("got %d, want %d", n, maxExpected)
	}
	if last := tr.host(u).expected.list[maxExpected-1].repo; last != "org/r99999" {
		t.Errorf("the last is %s", last)
	}
}

// The tokens of a session are bounded, and each is found without looking at all.
func TestTokensAreFoundByKey(t *testing.T) {
	var s tokens
	now := time.Now()
	for i := range 3 * maxTokens {
		s.add(&token{asked: scopes{fmt.Sprintf("repository:r%d", i): {"pull"}}, expires: now.Add(time.Hour)})
	}
	if s.live != maxTokens || len(s.byKey) != maxTokens {
		t.Errorf("got %d tokens with %d keys, want %d", s.live, len(s.byKey), maxTokens)
	}
	last := scopes{fmt.Sprintf("repository:r%d", 3*maxTokens-1): {"pull"}}
	if n := len(s.candidates(last)); n != 1 {
		t.Errorf("%d tokens are looked at, want 1", n)
	}
	if n := len(s.candidates(scopes{"repository:none": {"pull"}})); n != 0 {
		t.Errorf("%d tokens are looked at for what none has, want 0", n)
	}
	var over int
	if tok := s.find(last, now.Add(2*time.Hour), func(*token) { over++ }); tok != nil || over != 1 || s.live != maxTokens-1 {
		t.Errorf("got %v, %d ended and %d left", tok, over, s.live)
	}
}

// Fifty requests at once to a host that nobody has spoken to: one 401 tells all
// how to sign in; and where nobody has to, there is no request more.
func TestFirstContact(t *testing.T) {
	for _, free := range []bool{false, true} {
		reg := newFakeRegistry(t)
		front := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			if !free {
				reg.ServeHTTP(w, r)
			}
		})
		reg.realm = front.URL + "/v2/auth"
		c := newTest(t, Options{}).Client()
		for i := range 50 {
			Expect(c, mustURL(t, front.URL), fmt.Sprintf("repository:public/r%02d:pull", i))
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if status, _, err := try(c, "GET", fmt.Sprintf("%s/v2/public/r%02d/manifests/v1", front.URL, i), ""); err != nil || status != 200 {
					t.Errorf("got %d, %v", status, err)
				}
			})
		}
		wg.Wait()
		bad, tokens := len(front.all("/v2/public/"))-50, len(front.all("/v2/auth"))
		if free && bad+tokens != 0 || !free && (bad != 1 || tokens > 3) {
			t.Errorf("free %v: got %d requests more and %d for tokens", free, bad, tokens)
		}
	}
}

// A first request that doesn't end well holds nobody back for longer.
func TestFirstContactIsTakenOver(t *testing.T) {
	began := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request, n int) {
		if n == 1 {
			close(began)
			<-r.Context().Done()
		}
	})
	c := newTest(t, Options{}).Client()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		req, err := http.NewRequestWithContext(ctx, "GET", manifestOf(s.URL, 0), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := c.Do(req); err == nil {
			resp.Body.Close()
			t.Error("got an answer to what was cancelled")
		}
	})
	<-began
	wg.Go(func() { readAll(t, c, s.URL, 3, 3) })
	cancel()
	wg.Wait()
}

// On Quay a repository that isn't there may not be granted to read, and is to
// write: that is no service that grants less than it is asked for.
func TestRepositoriesToComeAreWrittenTogether(t *testing.T) {
	var calls []scopes
	s := &session{}
	ask := func(ahead string, need ...string) {
		t.Helper()
		_, _, err := s.token(t.Context(), want{
			need: parseScopes(need),
			ahead: func(context.Context, bool) []*expectation {
				return []*expectation{{want: parseScopes([]string{ahead})}}
			},
			fetch: func(_ context.Context, _, all scopes) (*token, error) {
				calls = append(calls, all)
				granted := scopes{}.with(all)
				for key, actions := range all {
					if key != "repository:a/there" && !writes(actions) {
						delete(granted, key)
					}
				}
				return &token{asked: all, granted: granted, expires: time.Now().Add(time.Hour)}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ask("repository:a/new:pull", "repository:a/there:pull")
	ask("repository:a/newer:pull,push", "repository:a/new:pull,push")
	if s.batches.single {
		t.Error("each repository is asked for by itself")
	}
	if len(calls) != 2 || len(calls[1]) != 2 {
		t.Errorf("got %v, want one request to write to two", calls)
	}
}

// Who was to find out how a host wants logins, and can't ask, lets the next one.
func TestFailedLoginEndsFirstContact(t *testing.T) {
	tr := newTest(t, Options{Credentials: func(context.Context, string, string) (Credential, error) {
		return Credential{}, final("no")
	}})
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://registry.example.com/v2/a/manifests/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.newCall(req)
	if err != nil {
		t.Fatal(err)
	}
	if c.scout, err = c.host.scout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.exchange(c); err == nil || len(c.host.asking) != 0 {
		t.Errorf("got %v, %d who ask", err, len(c.host.asking))
	}
}
