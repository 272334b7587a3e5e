package publish

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/journal"
	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// A run is one verb at work. It is safe for concurrent use.
type run struct {
	p       *Publisher
	command string
	name    string // of the run: when it began, and something by chance
	started time.Time
	journal *journal.Journal // nil in a dry run
	lock    *lockfile.Lock   // of the journal's file, nil where there is none

	mu       sync.Mutex
	repos    map[string]*registry.Repository // by side and name
	guards   map[string]guarded              // by the tag that they keep the old meaning of
	guarded  int                             // tags of guards that were begun
	children map[string]bool                 // manifests that were asked for, by repository and digest
	mute     map[string]bool                 // repositories that Quay's API shows nothing of
	gone     map[string]bool                 // repositories that weren't there when the run began
	finders  map[string]*companion.Finder    // by source repository
	inner    nestedLists                     // lists in lists; they have their own lock
	keepers  keepers                         // of guard tags; they have their own lock

	events    sync.Mutex // held while Events is called
	done, all int        // tags, for events
}

// A verb is what a run does, apart from its beginning and its end: it fills in the
// report's items.
type verb func(ctx context.Context, r *run, report *Report) error

// do runs a verb: its journal is begun, and at its end, which may be an error, the
// end of ctx or a panic, what it changed is put back, by p's policy. The report is
// complete in every case. It panics again where v did.
func (p *Publisher) do(ctx context.Context, command string, v verb) (*Report, error) {
	report := &Report{}
	r, err := p.begin(ctx, command)
	if err != nil {
		return report, err
	}
	defer func() {
		if cause := recover(); cause != nil {
			err := fmt.Errorf("panic: %v", cause)
			if thrown, ok := cause.(*panicError); ok {
				err = thrown
			}
			_ = r.end(ctx, report, err) // it warns of what is left
			panic(cause)
		}
	}()
	err = v(ctx, r, report)
	if thrown, ok := errors.AsType[*panicError](err); ok {
		panic(thrown)
	}
	return report, r.end(ctx, report, err)
}

// A panicError is a panic of a goroutine on its way to the one that started the run.
type panicError struct{ cause any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.cause) }

// safely gives f with its panic as an error that [Publisher.do] panics with again,
// after the rollback. A verb's own goroutines are started with it.
func safely(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				err = &panicError{cause}
			}
		}()
		return f()
	}
}

// begin starts the run of command, and its journal.
func (p *Publisher) begin(_ context.Context, command string) (*run, error) {
	r := p.newRun(command)
	if p.DryRun {
		return r, nil
	}
	tool := p.Tool
	if tool == "" {
		tool = "quaymaster"
	}
	head := journal.Header{Tool: tool, Command: command, Run: r.name, Started: r.started}
	var err error
	if p.Journal == "" {
		r.journal, err = journal.New(head)
		return r, err
	}
	if r.journal, err = journal.Create(p.Journal, head); err != nil {
		return nil, err
	}
	// So that nobody undoes a run that is still at work.
	if r.lock, err = lockJournal(p.Journal); err != nil {
		return nil, errors.Join(err, r.journal.Close())
	}
	return r, nil
}

func (p *Publisher) newRun(command string) *run {
	now := time.Now().UTC()
	var by [4]byte
	_, _ = rand.Read(by[:]) // it never fails
	return &run{
		p: p, command: command, started: now,
		name:  now.Format("20060102T150405Z") + "-" + hex.EncodeToString(by[:]),
		repos: map[string]*registry.Repository{}, guards: map[string]guarded{},
		children: map[string]bool{}, mute: map[string]bool{}, gone: map[string]bool{},
	}
}

// source gives the repository of ref, to be read; dest gives it to be written.
// Each is opened once in a run. That makes no request.
func (r *run) source(ref oci.Ref) (*registry.Repository, error) { return r.open("source", ref) }
func (r *run) dest(ref oci.Ref) (*registry.Repository, error)   { return r.open("dest", ref) }

func (r *run) open(side string, ref oci.Ref) (*registry.Repository, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := side + " " + ref.Name()
	if repo := r.repos[key]; repo != nil {
		return repo, nil
	}
	env := r.p.Source
	if side == "dest" {
		env = r.p.Dest
	}
	repo, err := registry.OpenRepository(oci.Ref{Registry: ref.Registry, Repository: ref.Repository}, env)
	if err == nil {
		r.repos[key] = repo
	}
	return repo, err
}

// atOnce is how many questions are asked at once.
func (r *run) atOnce() int { return r.p.questions() }

// expect says that so many more tags are to be worked on.
func (r *run) expect(tags int) {
	r.events.Lock()
	defer r.events.Unlock()
	r.all += tags
}

// changed tells that the work on a tag of an item is over.
func (r *run) changed(item int, ref oci.Ref, c Change) {
	r.events.Lock()
	defer r.events.Unlock()
	r.done++
	r.tell(Event{Kind: Changed, Item: item, Ref: ref, Change: &c, Done: r.done, All: max(r.done, r.all)})
}

// moved tells that bytes more were read from the source.
func (r *run) moved(bytes int64) {
	r.events.Lock()
	defer r.events.Unlock()
	r.tell(Event{Kind: Moved, Item: -1, Bytes: bytes, Done: r.done, All: max(r.done, r.all)})
}

// tell tells progress; events is held, so that events come one at a time.
func (r *run) tell(e Event) {
	if r.p.Events != nil {
		r.p.Events(e)
	}
}
