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
)

// heartbeat is how often a run without a terminal says that it lives.
const heartbeat = 30 * time.Second

// progress shows a run on stderr: a bar on a terminal; otherwise a line for
// each image that is begun, and a heartbeat.
type progress struct {
	app   *app
	verb  string // in front of each reference: "Processing"
	many  bool   // tell failures when they come: the summary may be hours away
	began time.Time
	bars  *mpb.Progress // nil without a terminal
	plain io.Writer     // the terminal itself
	bar   *mpb.Bar
	stop  chan struct{}
	idle  sync.WaitGroup

	mu    sync.Mutex
	moved int64 // bytes
	last  bulk.Event
	now   string // what was begun last
}

func (a *app) newProgress(verb string, many bool) *progress {
	p := &progress{app: a, verb: verb, many: many, began: time.Now(), stop: make(chan struct{})}
	switch {
	case a.quiet:
	case a.isTTY():
		p.plain = a.talk
		p.bars = mpb.New(mpb.WithOutput(a.talk), mpb.WithWidth(40))
		a.talk = p.bars // lines go above the bar
		p.bar = p.bars.AddBar(0, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.line() })),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.eta() })))
	default:
		p.idle.Go(p.beat)
	}
	return p
}

// event takes one event of the run.
func (p *progress) event(e bulk.Event) {
	p.mu.Lock()
	p.moved += e.Bytes
	p.last = e
	if e.Kind == bulk.Started {
		p.now = e.Item.Ref.Tagged()
	}
	p.mu.Unlock()
	switch {
	case p.bar != nil && e.Kind != bulk.Moved:
		p.bar.SetTotal(int64(max(e.Found, 1)), false)
		p.bar.SetCurrent(int64(e.Done))
	case p.bar == nil && e.Kind == bulk.Started:
		p.app.sayf("(%d/%s) %s", e.Number, total(e), join(p.verb, e.Item.Ref.Tagged()))
	}
	if e.Kind == bulk.Ended && e.Report != nil && e.Report.Status == oci.StatusFailed && p.many && p.bars == nil {
		p.app.sayf("(%d/%s) Failed %s", e.Number, total(e), failureText(*e.Report))
	}
}

// total is how many images there are, with a + while the listing goes on.
func total(e bulk.Event) string {
	if e.Complete {
		return fmt.Sprint(e.Found)
	}
	return fmt.Sprintf("%d+", e.Found)
}

func join(verb, text string) string {
	if verb == "" {
		return text
	}
	return verb + " " + text
}

// line says how far the run is.
func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate := int64(float64(p.moved) / max(time.Since(p.began).Seconds(), 0.001))
	return fmt.Sprintf("%d/%s images, %s, %s/s %s ", p.last.Done, total(p.last), bytesText(p.moved), bytesText(rate), oneLine(p.now))
}

// eta says how long the rest takes if images go on at the rate they had.
func (p *progress) eta() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.Complete || p.last.Done == 0 {
		return ""
	}
	left := time.Since(p.began) / time.Duration(p.last.Done) * time.Duration(p.last.Found-p.last.Done)
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
