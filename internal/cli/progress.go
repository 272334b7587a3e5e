package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// heartbeat is how often a run without a terminal says that it lives.
const heartbeat = 30 * time.Second

// progress shows a run on stderr: a bar on a terminal; otherwise a line for
// each image that is begun, and a heartbeat.
type progress struct {
	app   *app
	verb  string        // in front of each reference: "Processing"
	unit  string        // of what is counted: "images"
	many  bool          // tell failures when they come: the summary may be hours away
	bars  *mpb.Progress // nil without a terminal
	plain io.Writer     // the terminal itself
	bar   *mpb.Bar
	stop  chan struct{}
	idle  sync.WaitGroup

	mu    sync.Mutex
	phase string // in front of counts: "", or what is done after all else: "Undoing"
	began time.Time
	moved int64 // bytes
	far   counts
	now   string // what was worked on last
}

// counts say how far a run is; found is final once it is complete.
type counts struct {
	done, found int
	complete    bool
}

func (a *app) newProgress(verb, unit string, many bool) *progress {
	p := &progress{app: a, verb: verb, unit: unit, many: many, began: time.Now(), stop: make(chan struct{})}
	switch {
	case a.quiet:
	case a.isTTY():
		p.plain = a.talk
		p.bars = mpb.New(mpb.WithOutput(a.talk), mpb.WithWidth(40))
		a.talk = p.bars // lines go above the bar
		p.bar = p.bars.AddBar(0, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.line() + " " })),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.eta() })))
	default:
		p.idle.Go(p.beat)
	}
	return p
}

// event takes one event of a run over images.
func (p *progress) event(e bulk.Event) {
	now := ""
	if e.Kind == bulk.Started {
		now = e.Item.Ref.Tagged()
	}
	far := counts{e.Done, e.Found, e.Complete}
	p.advance(e.Bytes, far, now)
	if p.bar == nil && e.Kind == bulk.Started {
		p.app.sayf("(%d/%s) %s", e.Number, far.total(), join(p.verb, now))
	}
	if e.Kind == bulk.Ended && e.Report != nil && e.Report.Status == oci.StatusFailed && p.many && p.bars == nil {
		p.app.sayf("(%d/%s) Failed %s", e.Number, far.total(), failureText(*e.Report))
	}
}

// changed takes one event of a run that changes tags. It says no line of each: what
// became of them is printed at the end.
func (p *progress) changed(e publish.Event) {
	now := ""
	if e.Kind == publish.Changed {
		now = e.Ref.Tagged()
	}
	p.advance(e.Bytes, counts{e.Done, e.All, e.All > 0}, now)
}

// undoing says that from now on the run is taken back, which counts anew.
func (p *progress) undoing() {
	p.app.sayf("Undoing what was changed")
	p.mu.Lock()
	p.phase, p.began, p.moved, p.now = "Undoing", time.Now(), 0, ""
	p.mu.Unlock()
	p.advance(0, counts{}, "")
}

// advance notes how far the run is, and what it works on unless that is "".
func (p *progress) advance(bytes int64, far counts, now string) {
	p.mu.Lock()
	p.moved += bytes
	ahead := far != p.far
	p.far = far
	if now != "" {
		p.now = now
	}
	p.mu.Unlock()
	if p.bar != nil && ahead {
		p.bar.SetTotal(int64(max(far.found, 1)), false)
		p.bar.SetCurrent(int64(far.done))
	}
}

// total is how many there are, with a + while the listing goes on.
func (c counts) total() string {
	if c.complete {
		return fmt.Sprint(c.found)
	}
	return fmt.Sprintf("%d+", c.found)
}

func join(verb, text string) string {
	if verb == "" {
		return text
	}
	return verb + " " + text
}

// line says how far the run is. Tags may move where no byte does.
func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := join(p.phase, fmt.Sprintf("%d/%s %s", p.far.done, p.far.total(), p.unit))
	if p.moved > 0 || p.unit == "images" {
		rate := int64(float64(p.moved) / max(time.Since(p.began).Seconds(), 0.001))
		text += fmt.Sprintf(", %s, %s/s", bytesText(p.moved), bytesText(rate))
	}
	if p.now != "" {
		text += " " + oneLine(p.now)
	}
	return text
}

// eta says how long the rest takes if it goes on at the rate that it had.
func (p *progress) eta() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.far.complete || p.far.done == 0 {
		return ""
	}
	left := time.Since(p.began) / time.Duration(p.far.done) * time.Duration(p.far.found-p.far.done)
	return " ETA " + left.Round(time.Second).String()
}

// beat says a line now and then until the run ends.
func (p *progress) beat() {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.app.sayf("%s%s", p.line(), p.eta())
		}
	}
}

// close takes the bar away and waits for the heartbeat to end.
func (p *progress) close() {
	close(p.stop)
	p.idle.Wait()
	if p.bars != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.app.talk = p.plain
	}
}
