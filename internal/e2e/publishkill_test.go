package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// items is how many items the push has, one tag each. The first three are there.
const items = 5

// moments are where a write is when its program is stopped.
var moments = []string{"not begun", "done, not answered", "answered"}

// tagPut is a manifest that is put by tag.
var tagPut = regexp.MustCompile(`^PUT /v2/.*/manifests/[^:]*$`)

// A stopper holds a program at one of its writes, and lets nothing else through then.
type stopper struct {
	one sync.Mutex // held by a write until it is done, so that the n-th comes after n-1 others

	mu       sync.Mutex
	closed   *sync.Cond // broadcast when a connection closes
	open     int        // connections
	dead     bool       // who asks was killed
	at       int        // number of the write from 1, 0 for none
	moment   string
	puts     int
	shut     bool // the write has come
	answered bool
	reached  chan struct{} // closed when the program is where it is to be
	release  chan struct{}
}

// arm has the n-th write held. free lets go; of a program that is dead it waits until
// all that it had sent is gone, undone.
func (s *stopper) arm(n int, moment string) (reached <-chan struct{}, free func(dead bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.moment, s.puts, s.shut, s.answered = n, moment, 0, false, false
	s.reached, s.release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return s.reached, func(dead bool) { once.Do(func() { s.free(dead) }) }
}

func (s *stopper) free(dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.shut, s.dead = 0, false, dead
	close(s.release)
	for dead && s.open > 0 {
		s.closed.Wait()
	}
	s.dead = false
}

// opened counts connections. One of a dead program closes when everything was read
// that it had sent.
func (s *stopper) opened(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open++
	case http.StateClosed:
		s.open--
		s.closed.Broadcast()
	}
}

func (s *stopper) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tagPut.MatchString(r.Method + " " + r.URL.Path) {
			armed := s.armed()
			s.one.Lock()
			defer s.one.Unlock()
			if s.comes() {
				s.hold(w, r, next)
				return
			}
			if armed && !s.armed() { // it waited for the one that was held
				panic(http.ErrAbortHandler)
			}
		}
		s.mu.Lock()
		shut, answered, release, dead := s.shut, s.answered, s.release, s.dead
		s.answered = false
		s.mu.Unlock()
		if dead {
			panic(http.ErrAbortHandler)
		}
		if shut {
			if answered { // it asks the next thing, so it has the answer
				close(s.reached)
			}
			<-release
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *stopper) armed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at > 0
}

// comes reports whether this write is the one.
func (s *stopper) comes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == 0 || s.shut {
		return false
	}
	s.puts++
	s.shut = s.puts == s.at
	return s.shut
}

// hold stops the program at the moment that was asked for.
func (s *stopper) hold(w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch s.moment {
	case "not begun":
		close(s.reached)
		<-s.release
		panic(http.ErrAbortHandler)
	case "done, not answered":
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		close(s.reached)
		<-s.release
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
	default:
		next.ServeHTTP(w, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answered = true
	}
}

// An outlet is a registry that is pushed to.
type outlet struct {
	*stopper
	host, under string   // and what repositories are under
	login       []string // flags
	creds       transport.CredentialFunc
	put         func(repo, tag string, img imagetest.Image) error
}

// outlets are the registries that it is shown on.
var outlets = map[string]func(t *testing.T) *outlet{
	"distribution": func(t *testing.T) *outlet {
		h := distribution(t.Context(), t.TempDir(), "")
		s, back := newOutlet(t, h), serve(t, h, nil)
		s.put = func(repo, tag string, img imagetest.Image) error {
			return img.Push(t.Context(), back.URL, repo, tag, "")
		}
		return s
	},
	"quay with a robot":      func(t *testing.T) *outlet { return quayOutlet(t, false) },
	"quay with an API token": func(t *testing.T) *outlet { return quayOutlet(t, true) },
}

func quayOutlet(t *testing.T, api bool) *outlet {
	q := quaytest.New(quaytest.Options{})
	q.CreateUser("alice", "a-password")
	q.CreateOrg("public", "alice")
	robot := q.AddRobot("public", "bot")
	if err := errors.Join(q.AddTeam("public", "makers", "creator", "public+bot"), q.SetDefault("public", "public+bot", "write")); err != nil {
		t.Fatal(err)
	}
	s := newOutlet(t, q)
	s.login = []string{"--dest-creds", "public+bot:" + robot}
	if api {
		s.login = append(s.login, "--dest-quay-api-token", q.AddToken("alice", "repo:admin"), "--quay-host", s.host)
	}
	s.creds = transport.Fixed(s.host, "public+bot", robot)
	s.put = func(repo, tag string, img imagetest.Image) error { return q.Push(t.Context(), repo, tag, img) }
	return s
}

// newOutlet serves h, which a stopper stands in front of.
func newOutlet(t *testing.T, h http.Handler) *outlet {
	s := &outlet{stopper: &stopper{}, under: "public"}
	s.closed = sync.NewCond(&s.mu)
	server := httptest.NewUnstartedServer(s.wrap(h))
	server.Config.ConnState = s.opened
	server.Start()
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// A publication is one plan for one namespace of an outlet.
type publication struct {
	*outlet
	name, plan, journal string
	before              map[string]imagetest.Image // by repository
}

// publication fills the namespace name: of the five tags three are there.
func (s *outlet) publication(t *testing.T, source, name string) *publication {
	t.Helper()
	dir := t.TempDir()
	p := &publication{outlet: s, name: name, plan: filepath.Join(dir, "plan.yaml"), journal: filepath.Join(dir, "journal"), before: map[string]imagetest.Image{}}
	old := []imagetest.Image{
		imagetest.Index(image(11, 500, "amd64"), image(12, 500, "arm64")),
		image(13, 500, "amd64"),
		imagetest.Index(image(14, 500, "amd64"), image(15, 500, "s390x")).Docker(), // of which s390x stays
	}
	var plan strings.Builder
	for i := range items {
		repo := fmt.Sprintf("%s/%s/app%d", s.under, name, i)
		if i < len(old) {
			p.before[repo] = old[i]
			if err := s.put(repo, "v1", old[i]); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(&plan, "- pull_url: %s/team/app%d:v1\n  tags: {app%d: [v1]}\n", source, i, i)
	}
	if err := os.WriteFile(p.plan, []byte(plan.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// args are those of push.
func (p *publication) args(more ...string) []string {
	args := []string{"push", p.plan, "--plain-http", "--registry", p.host, "--namespace", p.under + "/" + p.name, "--journal", p.journal}
	return append(append(args, p.login...), more...)
}

// changed holds so many tags not to be as they were, byte for byte, or not to be
// there.
func (p *publication) changed(t *testing.T, want int) {
	t.Helper()
	var changed []string
	for i := range items {
		repo := fmt.Sprintf("%s/%s/app%d", p.under, p.name, i)
		_, raw, err := destination(t, env(t, transport.Options{Credentials: p.creds}), p.host, repo, "v1").Resolve(t.Context(), "")
		if was, there := p.before[repo]; there && (err != nil || !bytes.Equal(raw, was.Raw)) || !there && !errors.Is(err, oci.ErrNotFound) {
			changed = append(changed, fmt.Sprintf("%s: %q, %v", repo, raw, err))
		}
	}
	if len(changed) != want {
		t.Errorf("%d tags are not as they were, want %d: %s", len(changed), want, changed)
	}
}

// rollback runs it and gives how it sums up.
func (p *publication) rollback(t *testing.T) string {
	t.Helper()
	return must(t, append([]string{"rollback", "--plain-http", "--journal", p.journal}, p.login...)...).stderr
}

// sources starts the registry that all is pushed from.
func sources(t *testing.T) string {
	t.Helper()
	from := startRegistry(t, nil)
	for i := range items {
		img := imagetest.Index(image(uint64(2*i), 500, "amd64"), image(uint64(2*i+1), 500, "arm64"))
		if err := img.Push(t.Context(), from.URL, fmt.Sprintf("team/app%d", i), "v1", ""); err != nil {
			t.Fatal(err)
		}
	}
	return from.host
}

// TestKillDuringPush kills the program (SIGKILL) at each single write of a push of
// five items, before it is done, before it is answered, and after. The rollback from
// its journal gives every tag its old digest, byte for byte, and new tags are gone; a
// second one changes nothing. A78
func TestKillDuringPush(t *testing.T) {
	from := sources(t)
	for name, open := range outlets {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			for n := 1; n <= items; n++ {
				for k, moment := range moments {
					t.Run(fmt.Sprintf("write %d %s", n, moment), func(t *testing.T) {
						p := s.publication(t, from, fmt.Sprintf("kill%d-%d", n, k))
						reached, free := s.arm(n, moment)
						defer free(true)
						var said bytes.Buffer
						cmd := start(t.Context(), t, &said, p.args()...)
						ended := until(t, cmd, reached)
						kill(t, cmd)
						<-ended
						free(true)
						if cmd.ProcessState.Exited() {
							t.Errorf("it ended by itself: %v\n%s", cmd.ProcessState, &said)
						}
						written := n
						if moment == moments[0] {
							written--
						}
						p.changed(t, written)
						p.rollback(t)
						p.changed(t, 0)
						if text := p.rollback(t); strings.Contains(text, "restored") || strings.Contains(text, "deleted") || !strings.Contains(text, "unchanged") {
							t.Errorf("the second rollback says %s", text)
						}
						p.changed(t, 0)
					})
				}
			}
		})
	}
}

// TestInterruptDuringPush interrupts the program (SIGINT) at each single write of such
// a push. It puts everything back by itself, so that there is nothing left to undo. A79
func TestInterruptDuringPush(t *testing.T) {
	from := sources(t)
	for name, open := range outlets {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			for n := 1; n <= items; n++ {
				for k, moment := range moments[1:] {
					t.Run(fmt.Sprintf("write %d %s", n, moment), func(t *testing.T) {
						p := s.publication(t, from, fmt.Sprintf("int%d-%d", n, k))
						reached, free := s.arm(n, moment)
						defer free(false)
						var said bytes.Buffer
						// A signer that never ends, so that no run does before it is told to.
						cmd := start(t.Context(), t, &said, p.args("--sign-cmd", "tail -f /dev/null")...)
						ended := until(t, cmd, reached)
						if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
							t.Fatal(err)
						}
						free(false)
						<-ended
						if status := cmd.ProcessState.ExitCode(); status != 130 {
							t.Errorf("status %d\n%s", status, &said)
						}
						p.changed(t, 0)
						p.isPrivate(t)
						if text := p.rollback(t); strings.Contains(text, "restored") || strings.Contains(text, "deleted") {
							t.Errorf("there was something left to undo: %s", text)
						}
						p.changed(t, 0)
					})
				}
			}
		})
	}
}

// isPrivate holds the journal to be its owner's, without a credential inside.
func (p *publication) isPrivate(t *testing.T) {
	t.Helper()
	info, err := os.Stat(p.journal)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the journal's mode is %v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(p.journal)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range p.login {
		for secret := range strings.SplitSeq(flag, ":") {
			if len(secret) > 20 && !strings.HasPrefix(flag, "--") && bytes.Contains(raw, []byte(secret)) {
				t.Errorf("the journal holds %s", secret)
			}
		}
	}
}
