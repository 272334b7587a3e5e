package cli

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A sharedWriter may be written to by several at once, as stderr may.
type sharedWriter struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *sharedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

// shown runs do with a progress that has no terminal, and gives what it says.
func shown(t *testing.T, quiet bool, verb, unit string, do func(p *progress)) string {
	var talk sharedWriter
	synctest.Test(t, func(*testing.T) {
		a := &app{talk: &talk, quiet: quiet}
		p := a.newProgress(verb, unit, true)
		do(p)
		p.close()
	})
	return talk.buf.String()
}

// beats lets one heartbeat pass.
func beats() {
	time.Sleep(heartbeat)
	synctest.Wait()
}

func appTag(tag string) oci.Ref {
	return oci.Ref{Registry: "quay.io", Repository: "org/app", Tag: tag}
}

func TestProgressOfImages(t *testing.T) {
	item := oci.Item{Ref: appTag("1")}
	got := shown(t, false, "Processing", "images", func(p *progress) {
		p.event(bulk.Event{Kind: bulk.Started, Number: 1, Item: item, Found: 2})
		p.event(bulk.Event{Kind: bulk.Moved, Bytes: 30 << 20, Found: 2})
		beats()
		p.event(bulk.Event{Kind: bulk.Ended, Number: 1, Item: item, Done: 1, Found: 2, Complete: true,
			Report: &oci.ImageReport{Reference: "quay.io/org/app:1", Status: oci.StatusFailed, Error: "gone"}})
		beats()
	})
	want := "(1/2+) Processing quay.io/org/app:1\n" +
		"0/2+ images, 30.0 MB, 1.0 MB/s quay.io/org/app:1\n" +
		"(1/2) Failed quay.io/org/app:1: gone\n" +
		"1/2 images, 30.0 MB, 512.0 KB/s quay.io/org/app:1 ETA 1m0s\n"
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func tagEvents(p *progress) {
	beats() // all is being read
	p.changed(publish.Event{Kind: publish.Moved, Item: -1, Bytes: 60 << 20, All: 4})
	beats()
	p.changed(publish.Event{Kind: publish.Changed, Ref: appTag("1"), Change: &publish.Change{Status: publish.Failed}, Done: 1, All: 4})
	beats()
	p.undoing() // counts anew
	beats()
	p.changed(publish.Event{Kind: publish.Changed, Item: -1, Ref: appTag("2"), Change: &publish.Change{Status: publish.Restored}, Done: 1, All: 3})
	beats()
}

func TestProgressOfTags(t *testing.T) {
	got := shown(t, false, "", "tags", tagEvents)
	want := "0/0+ tags\n" +
		"0/4 tags, 60.0 MB, 1.0 MB/s\n" +
		"1/4 tags, 60.0 MB, 682.7 KB/s quay.io/org/app:1 ETA 4m30s\n" +
		"Undoing what was changed\n" +
		"Undoing 0/0+ tags\n" +
		"Undoing 1/3 tags quay.io/org/app:2 ETA 2m0s\n"
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := shown(t, true, "", "tags", tagEvents); got != "" {
		t.Errorf("with --quiet: %s", got)
	}
	short := func(p *progress) {
		p.changed(publish.Event{Kind: publish.Changed, Ref: appTag("1"), Change: &publish.Change{Status: publish.Pushed}, Done: 1, All: 1})
	}
	if got := shown(t, false, "", "tags", short); got != "" {
		t.Errorf("a short run says %s", got)
	}
}
