package suite_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/all"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// TestEveryBackendIsHere is that the table of backends and the suite's have the
// same schemes.
func TestEveryBackendIsHere(t *testing.T) {
	for _, b := range all.Table {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.scheme == b.Scheme }) {
			t.Errorf("%s:// has no line among kinds", b.Scheme)
		}
	}
	for _, k := range kinds {
		if !slices.ContainsFunc(all.Table, func(b backend.Kind) bool { return k.scheme == b.Scheme }) {
			t.Errorf("%s:// is no backend", k.scheme)
		}
	}
}

// TestBackends runs the suite over all kinds.
func TestBackends(t *testing.T) {
	w := newWorld(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { suite(t, k, w) })
	}
}

// A test is one of the suite. Where it returns false, places of that kind have
// nothing of what it is about.
type test struct {
	name string
	fits func(p place, tr oci.Traits) bool
	run  func(t *testing.T, c *call)
}

// A call is a test of a place that is empty.
type call struct {
	kind
	place
	world  *world
	env    backend.Env
	traits oci.Traits
}

var (
	always   = func(place, oci.Traits) bool { return true }
	readable = func(p place, _ oci.Traits) bool { return p.from != nil }
	written  = func(p place, _ oci.Traits) bool { return !p.only }
)

var tests = []test{
	{"round trips", always, roundTrips},
	{"many at once", func(p place, tr oci.Traits) bool { return tr.Many }, manyAtOnce},
	{"a second run does nothing", written, secondRun},
	{"looking leaves no trace", written, noTrace},
	{"what isn't committed is gone", written, uncommitted},
	{"cancelled", written, cancelled},
	{"no such image", readable, noSuchImage},
	{"damage on the disk", func(p place, _ oci.Traits) bool { return p.path != "" && p.from != nil }, damagedFiles},
	{"damage on the way", func(p place, _ oci.Traits) bool { return p.hurt != nil }, damagedAnswers},
	{"reading is cancelled", readable, cancelledReading},
}

func suite(t *testing.T, k kind, w *world) {
	for _, tt := range tests {
		c := newCall(t, k, w)
		if tt.fits(c.place, c.traits) {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, newCall(t, k, w)) })
		}
	}
}

func newCall(t *testing.T, k kind, w *world) *call {
	t.Helper()
	tr, err := transport.New(transport.Options{Retries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	c := &call{kind: k, world: w, place: k.empty(t, w)}
	c.env = backend.Env{HTTP: tr.Client(), PlainHTTP: true, Warn: func(s string) { t.Logf("warned: %s", s) }}
	target := c.target(t)
	c.traits = target.Traits()
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	return c
}

// again is c with another place.
func (c *call) again(t *testing.T) *call {
	t.Helper()
	return newCall(t, c.kind, c.world)
}

// parsed reads a URI that has to be right.
func parsed(t *testing.T, uri, role string) (backend.URI, backend.Kind) {
	t.Helper()
	u, err := backend.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	k, err := all.Table.Find(u.Scheme, role)
	if err == nil {
		err = k.CheckOptions(u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u, k
}

func (c *call) target(t *testing.T) oci.Target {
	t.Helper()
	u, k := parsed(t, c.to, "destination")
	target, err := k.Target(t.Context(), u, c.env)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// copy opens the place, copies images there and closes it.
func (c *call) copy(ctx context.Context, t *testing.T, images backend.Images) (*oci.Report, error) {
	t.Helper()
	target := c.target(t)
	report, err := bulk.Copy(ctx, images, target, bulk.Options{Images: 4, Name: c.place.name, Platforms: c.platforms(), Verify: c.verify(), Warn: c.env.Warn})
	return report, errors.Join(err, target.Close())
}

// verify is full where it costs little: a daemon saves the whole image for it.
func (c *call) verify() pipeline.Verify {
	if c.daemon {
		return pipeline.VerifyDefault
	}
	return pipeline.VerifyFull
}

// platforms are what is chosen from indexes.
func (c *call) platforms() []oci.Platform {
	if c.traits.Index {
		return nil
	}
	return []oci.Platform{imagetest.Linux}
}

// must is copy of what has to succeed.
func (c *call) must(t *testing.T, images backend.Images) *oci.Report {
	t.Helper()
	r, err := c.copy(t.Context(), t, images)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var serial atomic.Int64

// set makes a set of images with names that nobody else has.
func set(images ...imagetest.Image) (*imagetest.Kept, []oci.Item) {
	k := imagetest.NewKept()
	var items []oci.Item
	for _, img := range images {
		n := serial.Add(1)
		items = append(items, k.Add("suite.example", fmt.Sprintf("team/app%d", n), fmt.Sprintf("v%d", n), img))
	}
	return k, items
}

// compare holds what the place has under item's name against the source's.
func (c *call) compare(t *testing.T, src oci.Source, item oci.Item) {
	t.Helper()
	want, err := read(t.Context(), src, item, c.platforms())
	if err != nil {
		t.Fatal(err)
	}
	if c.tree != nil {
		for _, d := range diffTrees(c.tree(t), plain(want.images[0].files)) {
			t.Error(d)
		}
		return
	}
	got, err := c.read(t.Context(), t, item)
	if err != nil {
		t.Errorf("%s: %v", item.Ref, err)
		return
	}
	if !c.keeps {
		got.manifest, want.manifest = "", ""
	}
	if !got.equal(want) {
		t.Errorf("%s: got %s, want %s", item.Ref, got, want)
	}
}

// read gives what the place has under item's name.
func (c *call) read(ctx context.Context, t *testing.T, item oci.Item) (content, error) {
	t.Helper()
	return readURI(ctx, t, c.from(item.Ref), c.env)
}

func roundTrips(t *testing.T, c *call) {
	img := sample(1)
	layer := imagetest.Random(9, 3000)
	arm := imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, layer)
	images, items := set(img, img.Docker(), imagetest.Index(sample(2), arm), imagetest.New(imagetest.Linux, nil, layer, imagetest.Random(8, 10), layer))
	if !c.traits.Many {
		images, items = set(img)
	}
	c.must(t, images)
	for _, item := range items {
		c.compare(t, images, item)
	}
}

// manyAtOnce has two runs write images that share layers, and many readers read them.
func manyAtOnce(t *testing.T, c *call) {
	a, itemsA := set(sample(1), sample(2), sample(3))
	b, itemsB := set(sample(1), sample(4), sample(3))
	var g errgroup.Group
	for _, images := range []*imagetest.Kept{a, b} {
		g.Go(func() error {
			_, err := c.copy(t.Context(), t, images)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if c.from == nil {
		return
	}
	if c.alone {
		g.SetLimit(1)
	}
	for range 2 {
		for _, item := range itemsA {
			g.Go(func() error { c.compare(t, a, item); return nil })
		}
		for _, item := range itemsB {
			g.Go(func() error { c.compare(t, b, item); return nil })
		}
	}
	_ = g.Wait() // compare reports
}

func secondRun(t *testing.T, c *call) {
	images, items := set(sample(5))
	c.must(t, images)
	images.Reads()
	before := c.snapshot(t)
	r := c.must(t, images)
	if len(r.Images) != 1 || r.Images[0].Status != oci.StatusSkipped {
		t.Errorf("the report says %+v", r.Images)
	}
	reads := images.Reads()
	for _, l := range layersOf(t, images, items[0]) {
		if reads[l.Digest] > 0 {
			t.Errorf("layer %s was read again", l.Digest)
		}
	}
	for _, d := range before.diff(c.snapshot(t)) {
		t.Error(d)
	}
}

func digestSum(raw []byte) [sha256.Size]byte { return sha256.Sum256(raw) }
