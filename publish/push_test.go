package publish_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
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

// warned fails the test unless a change of the report has a warning with text.
func warned(t *testing.T, r *publish.Report, text string) {
	t.Helper()
	for _, item := range r.Items {
		for _, c := range item.Changes {
			if slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, text) }) {
				return
			}
		}
	}
	t.Errorf("no warning %q in %+v", text, r.Items)
}

// Nothing is asked before a push is, and a plan's registry is taken without the slash
// at its end. That each side has its own credentials is shown by a source that the
// destination's don't open, and the other way round.
func TestEachSideHasItsOwnCredentials(t *testing.T) {
	t.Run("A20 A21", func(t *testing.T) {
		from, to := quayArena(t), quayArena(t)
		s := &stage{t: t, from: from, to: to, cast: newCast(), pub: &publish.Publisher{Source: from.env, Dest: to.env}}
		img := s.cast.list("amd64=1", "arm64=2")
		from.push("org/repo:1", img)
		from.on(nil)
		to.on(nil)
		p, err := publish.ParsePlan("p", []byte(itemLines("org/repo:1 > target/repo:latest")), publish.PlanOptions{Registry: to.host + "/", Namespace: "org", SourceRegistry: from.host})
		if err != nil || len(from.requests()) != 0 || len(to.requests()) != 0 {
			t.Fatalf("%v, and %q and %q were asked before the push", err, from.requests(), to.requests())
		}
		r, err := s.pub.Push(t.Context(), p, s.opt)
		if err != nil {
			t.Fatal(err)
		}
		s.is(r, "org/target/repo:latest pushed")
		to.means("org/target/repo:latest", img)
	})
}

func TestPushWorkflows(t *testing.T) {
	tests := []struct {
		name    string
		dest    func(c *cast) []imagetest.Image // what the tags mean before, in their order
		kind    string
		item    func(c *cast) imagetest.Image
		opt     publish.PushOptions
		tags    string
		want    publish.Kind
		outcome string
		entries string // of the first tag, afterwards; "" for the item's bytes
		warning string
		silent  bool // there are no warnings
	}{
		{name: "A24 a source image", kind: "source", item: func(c *cast) imagetest.Image { return c.image("amd64=1") },
			tags: "latest-test-tag,1.0", want: publish.SourceImage, outcome: "pushed pushed"},
		{name: "A25 a single image", item: func(c *cast) imagetest.Image { return c.image("amd64=1") },
			tags: "latest-test-tag,1.0", want: publish.Single, outcome: "pushed pushed"},
		{name: "A26 a list, and the tag has no platform besides", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.list("arm64=1111", "s390x=1")} },
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "pushed"},
		{name: "A27 a list, and no tag", item: (*cast).fresh,
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "pushed"},
		{name: "A29 a list, and the tag has more platforms", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "merged", entries: "6666 7777 8888 2222 5555"},
		{name: "each tag by itself", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old(), c.list("arm64=0")} },
			tags: "a,b,c", want: publish.Multiarch, outcome: "merged pushed pushed", entries: "6666 7777 8888 2222 5555"},
		{name: "A30 a list, and the tag is a single image", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.image("amd64=5555")} },
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "pushed", warning: "doesn't have a manifest list"},
		{name: "a single image is promoted", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.image("amd64=5555")} },
			opt:  publish.PushOptions{MergeOptions: publish.MergeOptions{PromoteSingle: true}},
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "merged", entries: "6666 7777 8888 5555"},
		{name: "a single image goes into a list", item: func(c *cast) imagetest.Image { return c.image("s390x=1") }, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			opt:  publish.PushOptions{MergeOptions: publish.MergeOptions{PromoteSingle: true}},
			tags: "latest-test-tag", want: publish.Single, outcome: "merged", entries: "1 1111 2222 3333 5555"},
		{name: "a single image over a list", item: func(c *cast) imagetest.Image { return c.image("s390x=1") }, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			tags: "latest-test-tag", want: publish.Single, outcome: "pushed", warning: "it takes the place of the list"},
		{name: "merge never", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} }, opt: publish.PushOptions{Merge: publish.MergeNever},
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "pushed"},
		{name: "merge never, and a single image over a list", item: func(c *cast) imagetest.Image { return c.image("s390x=1") }, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			opt:  publish.PushOptions{Merge: publish.MergeNever, MergeOptions: publish.MergeOptions{PromoteSingle: true}},
			tags: "latest-test-tag", want: publish.Single, outcome: "pushed", warning: "it takes the place of the list"},
		{name: "merge never, and the tag is a single image", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.image("amd64=5555")} },
			opt:  publish.PushOptions{Merge: publish.MergeNever, MergeOptions: publish.MergeOptions{PromoteSingle: true}},
			tags: "latest-test-tag", want: publish.Multiarch, outcome: "pushed", warning: "doesn't have a manifest list"},
		// The old pusher asked for a list only. A source image was taken as it is whether
		// the answer was another type or 404; ours asks once, for all types.
		{name: "A32 a source image that is a list", kind: "source", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			tags: "latest-test-tag", want: publish.SourceImage, outcome: "pushed", warning: "which alone has linux/armhfp, linux/amd64"},
		{name: "A32 no list", item: func(c *cast) imagetest.Image { return c.image("arm64=1") }, tags: "x", want: publish.Single, outcome: "pushed"},
		{name: "A32 a list", item: (*cast).fresh, tags: "x", want: publish.Multiarch, outcome: "pushed"},
		{name: "the plan says single", kind: "single", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.old()} },
			tags: "x", want: publish.Single, outcome: "pushed", warning: "which alone has linux/armhfp, linux/amd64"},
		{name: "the plan says single, and nothing is lost", kind: "single", item: (*cast).fresh, dest: func(c *cast) []imagetest.Image { return []imagetest.Image{c.list("arm64=1111", "s390x=1")} },
			tags: "x", want: publish.Single, outcome: "pushed", silent: true},
	}
	for _, docker := range []bool{true, false} {
		family := "A35 OCI " // which the old pusher took for single images
		if docker {
			family = "docker "
		}
		for _, tt := range tests {
			t.Run(family+tt.name, func(t *testing.T) {
				staged(t, func(t *testing.T, s *stage) {
					s.cast.docker, s.opt = docker, tt.opt
					tags := strings.Split(tt.tags, ",")
					if tt.dest != nil {
						for n, img := range tt.dest(s.cast) {
							s.to.push("org/target----repo:"+tags[n], img)
						}
					}
					img := tt.item(s.cast)
					s.from.push("src/repo:1", img)
					line := strings.TrimSuffix("src/repo:1 "+tt.kind, " ") + " > target/repo:" + tt.tags
					r := s.mustPush(line)
					var want []string
					for n, status := range strings.Fields(tt.outcome) {
						want = append(want, "org/target----repo:"+tags[n]+" "+status)
						if status == "pushed" {
							s.to.means("org/target----repo:"+tags[n], img)
						}
					}
					s.is(r, strings.Join(want, ", "))
					if got := r.Items[0].Kind; got != tt.want {
						t.Errorf("kind %q, want %q", got, tt.want)
					}
					if tt.entries != "" {
						if got := s.to.entries("org/target----repo:"+tags[0], s.cast.names); got != tt.entries {
							t.Errorf("the list has %q, want %q", got, tt.entries)
						}
					}
					if tt.warning != "" {
						warned(t, r, tt.warning)
					}
					if c := r.Items[0].Changes[0]; tt.silent && len(c.Warnings)+len(c.Platforms) > 0 {
						t.Errorf("warned %q of %v", c.Warnings, c.Platforms)
					}
					s.to.on(nil)
					s.is(s.mustPush(line), strings.Join(unchanged(want), ", "))
					if wrote := s.to.puts(); len(wrote) != 0 {
						t.Errorf("once more, and %q were written", wrote)
					}
				})
			})
		}
	}
}

// unchanged gives an outcome as it is the second time.
func unchanged(outcome []string) []string {
	var out []string
	for _, o := range outcome {
		name, _, _ := strings.Cut(o, " ")
		out = append(out, name+" unchanged")
	}
	return out
}

func TestMergeBringsChildrenFirst(t *testing.T) {
	t.Run("A31", func(t *testing.T) {
		staged(t, func(t *testing.T, s *stage) {
			s.opt.Guard = publish.Guard{Template: publish.DefaultGuard}
			source := s.cast.list("amd64=1", "arm64=2")
			s.from.push("src/image:1", source)
			s.to.push("org/dest1:1", s.cast.list("amd64=0", "s390x=3"))
			s.to.push("org/dest2:2", s.cast.list("ppc64le=4"))
			s.to.on(nil)
			r := s.mustPush("src/image:1 > dest1:1 dest2:2")
			s.is(r, "org/dest1:1 merged, org/dest2:2 merged")
			for name, want := range map[string]string{"org/dest1:1": "1 2 3", "org/dest2:2": "1 2 4"} {
				if got := s.to.entries(name, s.cast.names); got != want {
					t.Errorf("%s has %q, want %q", name, got, want)
				}
			}
			// Of each repository the children come by their digests, each once, then
			// the guard tag, the tag itself last. The source's list isn't sent at all.
			for _, name := range []string{"dest1:1", "dest2:2"} {
				repo, tag, _ := strings.Cut(name, ":")
				var puts []string
				for _, asked := range s.to.requests() {
					if put, ok := strings.CutPrefix(asked, "PUT /v2/org/"+repo+"/manifests/"); ok {
						puts = append(puts, put)
					}
				}
				if len(puts) != 4 || !oci.IsDigest(puts[0]) || !oci.IsDigest(puts[1]) || !strings.HasPrefix(puts[2], tag+"-1") || puts[3] != tag || slices.Contains(puts, string(source.Desc.Digest)) {
					t.Errorf("%s got %q", repo, puts)
					continue
				}
				_, guard := s.to.get("org/" + repo + ":" + puts[2])
				if _, tagged := s.to.get("org/" + name); string(guard) != string(tagged) || tagged == nil {
					t.Errorf("%s:%s isn't what %s is", repo, puts[2], name)
				}
			}
		})
	})
}

// Companions of tags in one repository are reported once, also where a tag moved
// meanwhile, so that they were looked for again.
func TestPushReportsCompanionsOnce(t *testing.T) {
	staged(t, func(t *testing.T, s *stage) {
		sig := strings.Replace(string(s.cast.image("arm64=6666").Desc.Digest), ":", "-", 1) + ".sig"
		s.from.push("src/a:1", s.cast.fresh())
		s.from.push("src/a:"+sig, s.cast.image("amd64=sig"))
		s.to.push("org/a:1", s.cast.old())
		s.to.push("org/a:2", s.cast.old())
		var once sync.Once
		s.to.on(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/1") {
				once.Do(func() { s.to.push("org/a:1", s.cast.list("arm64=1111", "riscv64=9999")) })
			}
			return false
		})
		r := s.mustPush("src/a:1 > a:1,2")
		var got []string
		for _, c := range r.Items[0].Changes {
			got = append(got, fmt.Sprintf("%s %s %d", strings.TrimPrefix(c.Reference, s.to.host+"/org/a:"), c.Status, c.Attempts))
		}
		if want := []string{sig + " pushed 1", "1 merged 2", "2 merged 1"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestPushOrder(t *testing.T) {
	for _, kind := range []string{"", " source", " single", " multiarch"} {
		t.Run("A38"+kind, func(t *testing.T) {
			s := newStage(t, plainArena)
			img := s.cast.image("amd64=1")
			if kind == " multiarch" {
				img = s.cast.fresh()
			}
			s.from.push("src/repo:1", img)
			s.to.on(nil)
			r := s.mustPush("src/repo:1" + kind + " > b/x:1,1 a/y:2")
			s.is(r, "org/a----y:2 pushed, org/b----x:1 pushed")
			if got := s.to.puts(); !slices.Equal(got, []string{"org/a----y:2", "org/b----x:1"}) {
				t.Errorf("written %q", got)
			}
		})
	}
}

// A source that is on the destination's registry too is mounted, and within one
// repository nothing moves. The arena's host has a port.
func TestPushWithinOneRegistry(t *testing.T) {
	t.Run("A40", func(t *testing.T) {
		everywhere(t, func(t *testing.T, a *arena) {
			c := newCast()
			s := &stage{t: t, from: a, to: a, cast: c, pub: a.publisher()}
			img := c.list("amd64=1", "arm64=2")
			a.push("org/src:1", img)
			a.on(nil)
			r := s.mustPush("org/src:1 > src:2 other:3")
			s.is(r, "org/other:3 pushed, org/src:2 pushed")
			a.means("org/other:3", img)
			a.means("org/src:2", img)
			for _, asked := range a.requests() {
				if strings.HasPrefix(asked, "GET ") && strings.Contains(asked, "/blobs/") || strings.HasPrefix(asked, "PATCH ") {
					t.Errorf("bytes moved: %s", asked)
				}
				if strings.HasPrefix(asked, "POST /v2/org/src/") {
					t.Errorf("the source's own repository got %s", asked)
				}
			}
		})
	})
}
