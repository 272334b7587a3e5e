package bulk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// A pier is a target in memory whose images may be opened ahead: synctest knows
// when all wait on it.
type pier struct {
	puts   chan error // what each blob's arrival comes to; closed: all arrive
	checks chan struct{}
	closes chan struct{} // who closes an image waits for it; nil: nobody does

	mu                                sync.Mutex
	opened, closed, looked, committed int
}

func newPier() *pier { return &pier{puts: make(chan error), checks: make(chan struct{})} }

func (p *pier) add(n *int, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n += by
}

func (p *pier) Traits() oci.Traits           { return oci.Traits{Many: true, Index: true, Ahead: true} }
func (p *pier) Finish(context.Context) error { return nil }
func (p *pier) Close() error                 { return nil }
func (p *pier) Image(context.Context, oci.Ref) (oci.Destination, error) {
	p.add(&p.opened, 1)
	return berth{pier: p}, nil
}

// A berth is one image of a pier.
type berth struct {
	oci.Source
	*pier
}

func (b berth) Head(context.Context, string) (oci.Descriptor, error) {
	b.add(&b.looked, 1)
	return oci.Descriptor{}, oci.ErrNotFound
}
func (b berth) Has(context.Context, oci.Descriptor) (bool, error) { return false, nil }
func (b berth) PutManifest(context.Context, []byte, oci.MediaType) (oci.Descriptor, error) {
	return oci.Descriptor{}, nil
}
func (b berth) Commit(context.Context, oci.Descriptor, oci.Descriptor) error {
	b.add(&b.committed, 1)
	return nil
}
func (b berth) Close() error {
	b.add(&b.closed, 1)
	if b.closes != nil {
		<-b.closes
	}
	return nil
}

func (b berth) PutBlob(ctx context.Context, blob oci.Blob) (oci.Descriptor, error) {
	select {
	case err := <-b.puts:
		return blob.Desc, err
	case <-ctx.Done():
		return oci.Descriptor{}, context.Cause(ctx)
	}
}

func (b berth) Verify(ctx context.Context, _ oci.Descriptor, _ bool) error {
	select {
	case <-b.checks:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A voyage is a run onto a pier under synctest.
type voyage struct {
	*pier
	started, ended int
	report         *oci.Report
	err            error
	done           bool
	cancel         context.CancelFunc
}

// sail begins a copy of images, which have two blobs each.
func sail(t *testing.T, images []imagetest.Image, opt bulk.Options) *voyage {
	src := imagetest.NewKept()
	for i, img := range images {
		src.Add("far.example", "org/app", fmt.Sprint("v", i), img)
	}
	v := &voyage{pier: newPier()}
	opt.Blobs = 100
	opt.Events = func(e bulk.Event) {
		switch e.Kind {
		case bulk.Started:
			v.started++
		case bulk.Ended:
			v.ended++
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	v.cancel = cancel
	go func() {
		defer cancel()
		v.report, v.err = bulk.Copy(ctx, src, v.pier, opt)
		v.done = true
	}()
	synctest.Wait()
	return v
}

func apps(n int) []imagetest.Image {
	var all []imagetest.Image
	for i := range n {
		all = append(all, imagetest.New(imagetest.Linux, map[string]string{"n": fmt.Sprint(i)}, imagetest.Random(uint64(i), 100)))
	}
	return all
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := sail(t, apps(100), bulk.Options{Images: 2})
		close(v.checks)
		expect := func(opened, started int) {
			t.Helper()
			if v.opened != opened || v.looked != opened || v.started != started {
				t.Fatalf("opened %d, looked up %d, started %d, want %d, as many, and %d", v.opened, v.looked, v.started, opened, started)
			}
		}
		land := func(images int) {
			for range 2 * images {
				v.puts <- nil
				synctest.Wait()
			}
		}
		expect(40, 2)
		land(19)
		expect(40, 21)
		land(1)
		expect(60, 22)
		land(80)
		if !v.done || v.err != nil || v.report.Totals.Copied != 100 || v.closed != 100 {
			t.Errorf("done %v, %v, %+v, closed %d, want all", v.done, v.err, v.report, v.closed)
		}
	})
}

// Manifests that wait for their turn take 8 MiB and what the next one has.
func TestWindowIsBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		images := apps(10)
		for i := range images {
			images[i] = fat(t, images[i], 3<<20)
		}
		v := sail(t, images, bulk.Options{Images: 1})
		close(v.checks)
		if v.looked != 3 {
			t.Errorf("looked up %d images of 3 MiB, want 3", v.looked)
		}
		close(v.puts)
		synctest.Wait()
		if !v.done || v.err != nil || v.report.Totals.Copied != 10 {
			t.Errorf("%v, %v, want all copied", v.done, v.err)
		}
	})
}

// fat gives img a manifest of n bytes and some.
func fat(t *testing.T, img imagetest.Image, n int) imagetest.Image {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m["annotations"] = map[string]string{"filler": strings.Repeat("x", n)}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	img.Raw = raw
	img.Desc.Digest, img.Desc.Size = digest.FromBytes(raw), int64(len(raw))
	return img
}

// As many images wait for their verification as are copied beside.
func TestVerificationHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := sail(t, apps(10), bulk.Options{Images: 2})
		close(v.puts)
		synctest.Wait()
		if v.started != 4 || v.committed != 2 || v.ended != 0 {
			t.Errorf("%d started, %d committed, %d ended, want two that are verified and two behind them", v.started, v.committed, v.ended)
		}
		close(v.checks)
		synctest.Wait()
		if !v.done || v.err != nil || v.report.Totals.Verified != 10 {
			t.Errorf("%v, %v, want all verified", v.done, v.err)
		}
	})
}

func TestEndOfAWindow(t *testing.T) {
	errPut := errors.New("no space")
	tests := []struct {
		name string
		end  func(*voyage)
		fast bool
		want error
	}{
		{"interrupted", func(v *voyage) { v.cancel() }, false, context.Canceled},
		{"failed fast", func(v *voyage) { v.puts <- errPut }, true, errPut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := sail(t, apps(100), bulk.Options{Images: 2, FailFast: tt.fast})
				tt.end(v)
				synctest.Wait()
				if !v.done || !errors.Is(v.err, tt.want) {
					t.Fatalf("done %v, %v, want an end", v.done, v.err)
				}
				if v.opened != 40 || v.closed != 40 {
					t.Errorf("opened %d, closed %d", v.opened, v.closed)
				}
				r := v.report
				if r.Listing.Done || len(r.Images) != v.started || len(r.Images) > 3 || v.ended != v.started || r.Totals.Copied != 0 {
					t.Errorf("started %d, ended %d, %+v, want those that were begun and an incomplete listing", v.started, v.ended, r)
				}
			})
		})
	}
}

// A registry that is slow to cancel uploads must not be waited for image by image.
func TestImagesOfAWindowCloseTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := sail(t, apps(100), bulk.Options{Images: 2})
		v.closes = make(chan struct{})
		v.cancel()
		synctest.Wait()
		if v.closed != 40 || v.done {
			t.Errorf("%d are being closed, done %v, want all 40 at once", v.closed, v.done)
		}
		close(v.closes)
		synctest.Wait()
		if !v.done {
			t.Error("the run goes on")
		}
	})
}
