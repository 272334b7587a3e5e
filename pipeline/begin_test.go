package pipeline_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A foreseen destination notes that it was told what comes.
type foreseen struct {
	oci.Destination
	told int
}

func (f *foreseen) WillWrite() { f.told++ }

// Begin asks, reads manifests, and moves nothing.
func TestBegin(t *testing.T) {
	index := imagetest.Index(layered(imagetest.Linux, 1), layered(arm64, 2))
	far, near := newFar(t), newFar(t)
	item := far.push(t, "org/app", "v1", index)
	blobs := map[oci.Digest]bool{}
	held := int64(len(index.Raw))
	for _, child := range index.Children {
		held += int64(len(child.Raw))
		for d := range child.Blobs {
			blobs[d] = true
		}
	}
	target := openTarget(t, "registry://"+near.host, near.env())
	begin := func(opt pipeline.Options) (*pipeline.Begun, *foreseen) {
		t.Helper()
		img := far.image(t, item, target, near.host)
		f := &foreseen{Destination: img.Dest}
		img.Dest = f
		return pipeline.Begin(t.Context(), img, opt), f
	}

	b, dest := begin(pipeline.Options{DryRun: true})
	if b.Done() || dest.told != 0 {
		t.Errorf("done %v, told %d times; want a plan that nobody hears of", b.Done(), dest.told)
	}
	b, dest = begin(pipeline.Options{})
	if b.Done() || dest.told != 1 || b.Held() != held || writes(near.log()) != 0 {
		t.Errorf("done %v, told %d times, %d bytes held, want %d and no write", b.Done(), dest.told, b.Held(), held)
	}
	for _, p := range b.Blobs() {
		if !blobs[p.Blob.Desc.Digest] || p.Size <= 0 {
			t.Errorf("%+v is no blob of the image, or comes twice", p.Blob.Desc)
		}
		delete(blobs, p.Blob.Desc.Digest)
	}
	if len(blobs) != 0 {
		t.Errorf("%d blobs are not foreseen", len(blobs))
	}
	read := count(far.log(), "GET", "/manifests/")
	if r, err := b.Finish(t.Context()); err != nil || r.Status != oci.StatusCopied || read != 6 {
		t.Errorf("got %+v, %v after %d manifests read by two plans", r, err, read)
	}
	if again := count(far.log(), "GET", "/manifests/"); again != 0 {
		t.Errorf("%d manifests were read again", again)
	}
	b, dest = begin(pipeline.Options{})
	if !b.Done() || dest.told != 0 || len(b.Blobs()) != 0 {
		t.Errorf("done %v, told %d times, want an image that is there", b.Done(), dest.told)
	}
	if r, err := b.Finish(t.Context()); err != nil || r.Status != oci.StatusSkipped {
		t.Errorf("got %+v, %v", r, err)
	}
}

// parted is a source that lost blobs.
type parted struct {
	oci.Source
	gone map[oci.Digest][]byte
}

func (p *parted) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if _, gone := p.gone[d.Digest]; gone {
		return nil, oci.ErrNotFound
	}
	return p.Source.Fetch(ctx, d)
}

// A tag may move while its image waits for its turn.
func TestTagMovesBeforeItsTurn(t *testing.T) {
	before, after := layered(imagetest.Linux, 1), layered(imagetest.Linux, 2)
	for _, follow := range []bool{false, true} {
		s := quaytest.New(quaytest.Options{})
		run := s.Start()
		defer run.Close()
		img := fromQuay(t, run, pushQuay(t, s, run, before))
		moved := false
		part := &parted{Source: img.Source}
		img.Source = part
		b := pipeline.Begin(t.Context(), img, pipeline.Options{FollowMoved: follow, Moved: func() { moved = true }})
		if err := s.Push(t.Context(), "org/app", "v1", after); err != nil {
			t.Fatal(err)
		}
		part.gone = maps.Clone(before.Blobs)
		maps.DeleteFunc(part.gone, func(d oci.Digest, _ []byte) bool { return after.Blobs[d] != nil })
		r, err := b.Finish(t.Context())
		switch {
		case !follow && !errors.Is(err, oci.ErrMoved):
			t.Errorf("got %v, want moved", err)
		case follow && (err != nil || r.Digest != after.Desc.Digest || !moved):
			t.Errorf("got %s, %v, want the new image", r.Digest, err)
		}
	}
}

// refusing is a destination that takes no manifest the first time.
type refusing struct {
	oci.Destination
	meanwhile func()
}

func (r *refusing) PutManifest(ctx context.Context, raw []byte, mt oci.MediaType) (oci.Descriptor, error) {
	if do := r.meanwhile; do != nil {
		r.meanwhile = nil
		do()
		return oci.Descriptor{}, oci.ErrNotFound
	}
	return r.Destination.PutManifest(ctx, raw, mt)
}

// A tag may move when all was there already: who waits for that hears it once.
func TestMovedIsToldOnce(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	run := s.Start()
	defer run.Close()
	img := fromQuay(t, run, pushQuay(t, s, run, layered(imagetest.Linux, 1)))
	after := layered(imagetest.Linux, 2)
	img.Dest = &refusing{img.Dest, func() {
		if err := s.Push(t.Context(), "org/app", "v1", after); err != nil {
			t.Fatal(err)
		}
	}}
	told := 0
	r, err := pipeline.Copy(t.Context(), img, pipeline.Options{FollowMoved: true, Moved: func() { told++ }})
	if err != nil || r.Digest != after.Desc.Digest || told != 1 {
		t.Errorf("got %s, %v, told %d times, want the new image and once", r.Digest, err, told)
	}
}

// What an earlier plan foresaw stays what it was, since others may be reading it.
func TestPieceOutlivesItsPlan(t *testing.T) {
	before, after := layered(imagetest.Linux, 1), layered(imagetest.Linux, 2)
	s := quaytest.New(quaytest.Options{})
	run := s.Start()
	defer run.Close()
	img := fromQuay(t, run, pushQuay(t, s, run, before))
	part := &parted{Source: img.Source}
	img.Source = part
	b := pipeline.Begin(t.Context(), img, pipeline.Options{FollowMoved: true, Platforms: []oci.Platform{imagetest.Linux}})
	config := b.Blobs()[0]
	if err := s.Push(t.Context(), "org/app", "v1", after); err != nil {
		t.Fatal(err)
	}
	part.gone = maps.Clone(before.Blobs)
	maps.DeleteFunc(part.gone, func(d oci.Digest, _ []byte) bool { return after.Blobs[d] != nil })
	if r, err := b.Finish(t.Context()); err != nil || r.Digest != after.Desc.Digest {
		t.Fatalf("got %s, %v, want the new image", r.Digest, err)
	}
	rc, err := config.Blob.Open(t.Context())
	if err != nil {
		t.Fatalf("the config that was read: %v", err)
	}
	defer rc.Close()
	if raw, err := io.ReadAll(rc); err != nil || string(raw) != string(before.Blobs[config.Blob.Desc.Digest]) {
		t.Errorf("got %q, %v", raw, err)
	}
}
