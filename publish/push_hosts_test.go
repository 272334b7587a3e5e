package publish_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A plan may go to several registries: manifests are read once for all of them, and
// what fails at one is put back at the others.
func TestPushToSeveralRegistries(t *testing.T) {
	s := newStage(t, plainArena)
	other := plainArena(t)
	img := s.cast.list("amd64=1", "arm64=2")
	s.from.push("src/a:1", img)
	plan := func() *publish.Plan {
		p, err := publish.ParsePlan("p", fmt.Appendf(nil, "- pull_url: src/a:1\n  tags:\n    %s/org/a: [x]\n    %s/org/b: [x]\n", s.to.host, other.host), publish.PlanOptions{SourceRegistry: s.from.host})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	s.from.on(nil)
	r, err := s.pub.Push(t.Context(), plan(), s.opt)
	if err != nil {
		t.Fatal(err)
	}
	s.to.means("org/a:x", img)
	other.means("org/b:x", img)
	if r.Totals[publish.Pushed] != 2 {
		t.Errorf("totals %v", r.Totals)
	}
	for _, d := range []oci.Digest{img.Desc.Digest, img.Children[0].Desc.Digest, img.Children[1].Desc.Digest} {
		reads := 0
		for _, asked := range s.from.requests() {
			if asked == "GET /v2/src/a/manifests/"+string(d) || d == img.Desc.Digest && asked == "GET /v2/src/a/manifests/1" {
				reads++
			}
		}
		if reads != 1 {
			t.Errorf("%s was read %d times", d, reads)
		}
	}

	s.from.push("src/a:1", s.cast.list("amd64=3", "arm64=4"))
	hook, _ := failing("PUT", "/org/b/manifests/x", 403, 1000)
	other.on(hook)
	if _, err := s.pub.Push(t.Context(), plan(), s.opt); err == nil {
		t.Error("no error")
	}
	s.to.means("org/a:x", img)
	other.means("org/b:x", img)
}

// Signatures go along: of a whole source those of all that it has, of a merged list
// those of images that were copied; and they are taken back with the rest.
func TestPushCarriesSignatures(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		img := s.cast.list("amd64=1", "arm64=2")
		s.from.push("src/a:1", img)
		signatures := map[string]imagetest.Image{}
		for n, d := range []oci.Digest{img.Desc.Digest, img.Children[0].Desc.Digest} {
			tag := "sha256-" + d.Encoded() + ".sig"
			signatures[tag] = s.cast.image(fmt.Sprintf("amd64=signature%d", n))
			s.from.push("src/a:"+tag, signatures[tag])
		}
		s.to.push("org/merged:x", s.cast.list("s390x=3"))
		hook, _ := failing("PUT", "/org/whole/manifests/x", 403, 1)
		s.to.on(hook)
		if _, err := s.push("src/a:1 > whole:x"); err == nil {
			t.Error("no error")
		}
		for tag := range signatures {
			if _, raw := s.to.get("org/whole:" + tag); raw != nil {
				t.Errorf("%s is left behind", tag)
			}
		}
		r := s.mustPush("src/a:1 > whole:x merged:x")
		s.is(r, "org/merged:x merged, org/whole:x pushed")
		root := "sha256-" + img.Desc.Digest.Encoded() + ".sig"
		for tag, want := range signatures {
			s.to.means("org/whole:"+tag, want)
			if tag != root {
				s.to.means("org/merged:"+tag, want)
			}
		}
		if _, raw := s.to.get("org/merged:" + root); raw != nil {
			t.Error("the merged list has the signature of another")
		}
		n := 0
		for _, c := range r.Items[0].Changes {
			if c.Companion == "signature" && strings.HasSuffix(c.Reference, ".sig") {
				n++
			}
		}
		if n != 3 {
			t.Errorf("%d signatures in the report, want 3", n)
		}
	})
}

// A signature that was made after the image was pushed comes with the next push.
func TestPushCarriesLateSignatures(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		img := s.cast.list("amd64=1", "arm64=2")
		s.from.push("src/a:1", img)
		s.mustPush("src/a:1 > b:x")
		tag := "sha256-" + img.Children[0].Desc.Digest.Encoded() + ".sig"
		signature := s.cast.image("amd64=signature")
		s.from.push("src/a:"+tag, signature)
		s.is(s.mustPush("src/a:1 > b:x"), "org/b:x unchanged")
		s.to.means("org/b:"+tag, signature)
	})
}

// Registries don't wait for each other: what is for both is soon at both, and no
// registry forgets what lies there without a tag meanwhile.
func TestPushToRegistriesAtOnce(t *testing.T) {
	s := newStage(t, plainArena)
	other := plainArena(t)
	s.pub.Images = 1
	a, b := s.cast.image("amd64=1"), s.cast.image("amd64=2")
	s.from.push("src/a:1", a)
	s.from.push("src/b:1", b)
	p, err := publish.ParsePlan("p", fmt.Appendf(nil, "- pull_url: src/a:1\n  tags: {\"%[1]s/org/a\": [x], \"%[2]s/org/a\": [x]}\n- pull_url: src/b:1\n  tags: {\"%[1]s/org/b\": [x], \"%[2]s/org/b\": [x]}\n", s.to.host, other.host), publish.PlanOptions{SourceRegistry: s.from.host})
	if err != nil {
		t.Fatal(err)
	}
	tagged := make(chan struct{}) // the first item, at both
	left := sync.WaitGroup{}
	left.Add(2)
	go func() { left.Wait(); close(tagged) }()
	count := func() func(http.ResponseWriter, *http.Request) bool {
		once := sync.OnceFunc(left.Done)
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/org/a/manifests/x") {
				once()
			}
			return false
		}
	}
	s.to.on(count())
	other.on(count())
	s.from.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/src/b/blobs/") {
			<-tagged // for ever, if the other registry's turn comes after this
		}
		return false
	})
	if _, err := s.pub.Push(t.Context(), p, s.opt); err != nil {
		t.Fatal(err)
	}
	s.to.means("org/a:x", a)
	other.means("org/a:x", a)
	s.to.means("org/b:x", b)
	other.means("org/b:x", b)
}

// What two items have in common is read once, and counted once.
func TestPushCountsBytesOnce(t *testing.T) {
	bytes := func(lines ...string) (n int64) {
		s := newStage(t, plainArena)
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		s.from.push("src/a:2", s.cast.image("amd64=1"))
		for _, item := range s.mustPush(lines...).Items {
			for _, c := range item.Changes {
				n += c.Bytes
			}
		}
		return n
	}
	one, two := bytes("src/a:1 > b:x"), bytes("src/a:1 > b:x", "src/a:2 > b:y")
	if one == 0 || two != one {
		t.Errorf("%d bytes of one tag, %d of two that mean the same", one, two)
	}
}

// Each byte that was read is told once as it moves, and stands in the report once,
// whatever became of the tags that it was read for.
func TestBytesAreAllReported(t *testing.T) {
	for name, tt := range map[string]struct {
		broken string
		tag    bool
	}{
		"pushed":                       {"", false},
		"a copy fails":                 {"/org/b/manifests/sha256", false},
		"a tag fails":                  {"/org/b/manifests/x", false},
		"tagged":                       {"", true},
		"a copy for a tag fails":       {"/org/b/manifests/sha256", true},
		"a tag of two repos isn't set": {"/org/b/manifests/x", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, plainArena)
			s.from.push("src/a:1", s.cast.image("amd64=1"))
			s.from.push("src/b:1", s.cast.image("amd64=2"))
			s.to.on(func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && tt.broken != "" && strings.HasPrefix(r.URL.Path, "/v2"+tt.broken) && answer(w, http.StatusForbidden, "DENIED")
			})
			var moved, reported int64
			s.pub.Events = func(e publish.Event) { moved += e.Bytes }
			var r *publish.Report
			var err error
			if tt.tag {
				r, err = s.pub.Tag(t.Context(), s.from.ref("src/a:1"), []oci.Ref{s.to.ref("org/a:x"), s.to.ref("org/b:x"), s.to.ref("org/b:y")}, publish.TagOptions{})
			} else {
				r, err = s.push("src/a:1 > a:x,y", "src/b:1 > b:x,y")
			}
			if (err != nil) != (tt.broken != "") {
				t.Errorf("got %v", err)
			}
			for _, item := range r.Items {
				for _, c := range item.Changes {
					reported += c.Bytes
				}
			}
			if moved == 0 || reported != moved {
				t.Errorf("%d bytes moved, and the report has %d", moved, reported)
			}
		})
	}
}

// A list that was to be merged, and goes out whole since the tag lost its other
// platforms meanwhile, takes its signature along.
func TestPushSignsWhatIsWholeAfterAll(t *testing.T) {
	s := newStage(t, plainArena)
	s.pub.Companions = true
	img := s.cast.fresh()
	s.from.push("src/repo:1", img)
	tag := "sha256-" + img.Desc.Digest.Encoded() + ".sig"
	signature := s.cast.image("amd64=signature")
	s.from.push("src/repo:"+tag, signature)
	s.to.push("org/repo:1", s.cast.old())
	var once sync.Once
	s.to.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/org/repo/manifests/1") {
			once.Do(func() { s.to.push("org/repo:1", s.cast.list("arm64=0")) }) // right before the write
		}
		return false
	})
	s.mustPush("src/repo:1 > repo:1")
	s.to.means("org/repo:1", img)
	s.to.means("org/repo:"+tag, signature)
}
