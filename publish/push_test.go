package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A stage is where a push goes from and to: two registries.
type stage struct {
	t        *testing.T
	from, to *arena
	cast     *cast
	opt      publish.PushOptions
	pub      *publish.Publisher
}

// newStage opens a plain registry with the sources, and one to push to.
func newStage(t *testing.T, open func(*testing.T) *arena) *stage {
	s := &stage{t: t, from: plainArena(t), to: open(t), cast: newCast()}
	s.pub = &publish.Publisher{Source: s.from.env, Dest: s.to.env, Companions: true}
	return s
}

// staged runs test for each of arenas as the destination.
func staged(t *testing.T, test func(t *testing.T, s *stage)) {
	for name, open := range arenas {
		t.Run(name, func(t *testing.T) { test(t, newStage(t, open)) })
	}
}

// plan parses a plan whose sources are in from, and whose repositories are
// below to's "org".
func (s *stage) plan(text string) *publish.Plan {
	s.t.Helper()
	p, err := publish.ParsePlan("plan.yaml", []byte(text), publish.PlanOptions{
		Registry: s.to.host, Namespace: "org", SourceRegistry: s.from.host, Names: publish.NamesFlatten,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// push pushes a plan of lines "src/repo:1 > target/repo:latest,1.0 b/c:2".
func (s *stage) push(lines ...string) (*publish.Report, error) {
	s.t.Helper()
	return s.pub.Push(s.t.Context(), s.plan(itemLines(lines...)), s.opt)
}

// itemLines gives the plan of such lines. "source" in front of > makes it an image
// of source code.
func itemLines(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		source, to, _ := strings.Cut(line, " > ")
		source, kind, _ := strings.Cut(source, " ")
		fmt.Fprintf(&b, "- pull_url: %s\n", source)
		if kind != "" {
			fmt.Fprintf(&b, "  kind: %s\n", kind)
		}
		b.WriteString("  tags:\n")
		for dest := range strings.FieldsSeq(to) {
			repo, tags, _ := strings.Cut(dest, ":")
			fmt.Fprintf(&b, "    %s: [%s]\n", repo, tags)
		}
	}
	return b.String()
}

// mustPush is push without an error.
func (s *stage) mustPush(lines ...string) *publish.Report {
	s.t.Helper()
	r, err := s.push(lines...)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// outcome gives what became of the tags themselves: "org/a:1 pushed, org/b:1 merged".
func (s *stage) outcome(r *publish.Report) string {
	var out []string
	for _, item := range r.Items {
		for _, c := range item.Changes {
			if c.Companion == "" {
				out = append(out, strings.TrimPrefix(c.Reference, s.to.host+"/")+" "+string(c.Status))
			}
		}
	}
	return strings.Join(out, ", ")
}

// is fails the test unless the report's outcome is want.
func (s *stage) is(r *publish.Report, want string) {
	s.t.Helper()
	if got := s.outcome(r); got != want {
		s.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPushOne(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		img := s.cast.image("amd64=1")
		s.from.push("src/repo:1", img)
		s.to.on(nil)
		r := s.mustPush("src/repo:1 > target/repo:latest")
		s.to.means("org/target----repo:latest", img)
		s.is(r, "org/target----repo:latest pushed")
		again := s.mustPush("src/repo:1 > target/repo:latest")
		s.is(again, "org/target----repo:latest unchanged")
		if item := r.Items[0]; item.Kind != publish.Single || item.Digest != img.Desc.Digest || item.Source != s.from.host+"/src/repo:1" {
			t.Errorf("item %+v", item)
		}
	})
}

var _ = errors.Is
var _ = http.StatusOK
var _ imagetest.Image
var _ oci.Ref
