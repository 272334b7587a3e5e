package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A deed is one use of a verb that moves tags: what it is called, what it works
// on, and what does it.
type deed struct {
	command        string
	sources, dests []oci.Ref // whose hosts it speaks to
	flags          *publishFlags
	do             func(ctx context.Context, p *publish.Publisher) (*publish.Report, error)
	// event is what --events gets once it is done: a name and facts. nil: nothing.
	event func(r *publish.Report) (string, map[string]any)
	// step, unless it is "", has events with facts before it is begun and if it
	// fails as well: STEP-start and STEP-error.
	step  string
	facts map[string]any
	// undoes says that it goes on with the journal of another run.
	undoes bool
}

// publish does d, prints what became of the tags, and says where its journal is.
func (a *app) publish(ctx context.Context, d deed) error {
	o, err := a.publisher(d.sources, d.dests, d.flags)
	if err != nil {
		return err
	}
	defer o.close()
	if !d.undoes {
		if o.Journal, err = a.newJournal(d.flags, d.command); err != nil {
			return err
		}
	}
	events, err := a.openEvents(d.flags.events)
	if err != nil {
		return err
	}
	events.write("start", map[string]any{"command": d.command})
	stepping := d.step != "" && !d.flags.dryRun
	if stepping {
		events.write(d.step+"-start", d.facts)
	}
	over := func() {}
	if !d.flags.dryRun { // an interrupted program waits for what it has begun, so that all of it is undone
		over = a.undo.begin()
	}
	report, err := a.watch(ctx, o.Publisher, d.unit(), d.do)
	over()
	a.settled = err == nil
	if report != nil && !d.undoes && d.flags.journal == "" {
		tidy(report)
	}
	if err != nil && stepping {
		facts := map[string]any{"error": message(err)}
		maps.Copy(facts, d.facts)
		events.write(d.step+"-error", facts)
	}
	var unwritten error // apart from what became of the tags
	if report != nil {
		if err == nil && d.event != nil && !d.flags.dryRun {
			events.write(d.event(report))
		}
		unwritten = a.writeReport(report)
	}
	events.write("stop", map[string]any{"command": d.command, "failed": err != nil})
	unwritten = errors.Join(unwritten, events.close())
	if report == nil {
		return errors.Join(hinted(err), unwritten)
	}
	unwritten = errors.Join(unwritten, a.printChanges(report, d.flags.events == "-"))
	err = a.published(report, err)
	if err != nil && unwritten != nil { // err may have been told; this wasn't
		fmt.Fprintf(a.talk, "Error: %s\n", message(unwritten))
		return err
	}
	return errors.Join(err, unwritten)
}

// unit is what d's events count.
func (d deed) unit() string {
	if d.command == "repo-remove" {
		return "repositories"
	}
	return "tags"
}

// watch lets do work with p, and shows how far it is.
func (a *app) watch(ctx context.Context, p *publish.Publisher, unit string, do func(context.Context, *publish.Publisher) (*publish.Report, error)) (*publish.Report, error) {
	progress := a.newProgress("", unit, true)
	defer progress.close() // a panic too is to be seen on a terminal without a bar
	p.Events = progress.changed
	p.Undoing = func() func() {
		progress.undoing()
		return a.undo.begin()
	}
	return do(ctx, p)
}

// tidy removes the journal that r's run kept in the folder for journals, if it wrote
// nothing that could be undone.
func tidy(r *publish.Report) {
	if r.Journal == "" || wrote(r) || len(r.Undone) > 0 {
		return
	}
	if refs, err := publish.Journaled(r.Journal); err == nil && len(refs) == 0 && os.Remove(r.Journal) == nil {
		r.Journal = ""
	}
}

// published says on stderr how a run ended, and gives the error that is left to be told.
func (a *app) published(r *publish.Report, err error) error {
	var told []string
	for _, i := range r.Items {
		told = append(told, a.tellItem(i, len(r.Items) > 1)...)
	}
	for _, c := range r.Undone {
		a.tellWarnings(c)
		if c.Error != "" && !tellsOf(r, c) {
			told = append(told, c.Error)
			a.tellFailure(c.Reference, c.Error)
		}
	}
	if err == nil || len(r.Totals) > 0 { // else nothing was begun, and the error says why
		a.sayf("%s", totalsText(r))
	}
	switch {
	case errors.Is(err, publish.ErrUndoIncomplete) && r.Journal != "":
		fmt.Fprintf(a.talk, "To go on undoing it: quaymaster rollback --journal %s%s\n", r.Journal, forceText(r))
	case r.Journal != "" && wrote(r) && r.Command != "remove": // nothing brings back a repository
		a.sayf("To undo it: quaymaster rollback --journal %s", r.Journal)
	}
	if err != nil {
		a.tellHints(err)
	}
	if err == nil || len(told) == 0 {
		return err
	}
	return untold(err, told)
}

// tellItem tells warnings and errors of an item, and gives the errors that it told. What failed its tags alike is told once. The error of the item itself is the
// run's, unless there are several.
func (a *app) tellItem(i publish.ItemReport, several bool) (told []string) {
	var failed []publish.Change
	for _, c := range i.Changes {
		a.tellWarnings(c)
		if c.Error != "" && (c.Status == publish.Failed || c.Status == publish.Conflict) {
			failed = append(failed, c)
		}
	}
	alike := func(c publish.Change) bool { return c.Error == failed[0].Error }
	switch {
	case len(failed) > 1 && i.Source != "" && !slices.ContainsFunc(failed, func(c publish.Change) bool { return !alike(c) }):
		a.tellFailure(i.Source, failed[0].Error)
		return []string{failed[0].Error}
	case len(failed) > 0:
		for _, c := range failed {
			a.tellFailure(c.Reference, c.Error)
			told = append(told, c.Error)
		}
	case i.Error != "" && several:
		a.tellFailure(i.Source, i.Error)
		told = []string{i.Error}
	}
	return told
}

// forceText says how to undo what somebody else has moved, where there is such.
func forceText(r *publish.Report) string {
	if slices.ContainsFunc(r.Undone, func(c publish.Change) bool { return c.Status == publish.Conflict }) {
		return "; --force also puts back what somebody else moved"
	}
	return ""
}

// tellsOf reports whether an item of r has the same to say as c, which undoing left.
func tellsOf(r *publish.Report, c publish.Change) bool {
	return slices.ContainsFunc(r.Items, func(i publish.ItemReport) bool {
		return slices.ContainsFunc(i.Changes, func(d publish.Change) bool {
			return d.Reference == c.Reference && d.Error == c.Error && (d.Status == publish.Failed || d.Status == publish.Conflict)
		})
	})
}

func (a *app) tellWarnings(c publish.Change) {
	for _, w := range c.Warnings {
		if !strings.HasPrefix(w, c.Reference) {
			w = c.Reference + ": " + w
		}
		a.warnf(w)
	}
}

func (a *app) tellFailure(what, why string) {
	fmt.Fprintf(a.talk, "Failed: %s\n", oneLine(strings.ReplaceAll(what+": "+why, "\n", "; ")))
}

// order is that of statuses in a summary.
var order = []publish.Status{
	publish.Planned, publish.Pushed, publish.Merged, publish.Restored, publish.Deleted, publish.Unchanged, publish.Absent,
	publish.Kept, publish.Skipped, publish.RolledBack, publish.Conflict, publish.Failed,
}

// totalsText sums a run up: "Summary: 3 pushed, 1 unchanged".
func totalsText(r *publish.Report) string {
	var parts []string
	for _, s := range order {
		if n := r.Totals[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to do"}
	}
	text := "Summary: " + strings.Join(parts, ", ")
	if r.DryRun {
		text += "; nothing was changed"
	}
	return text
}

// wrote reports whether anything was left changed.
func wrote(r *publish.Report) bool {
	return !r.DryRun && slices.ContainsFunc(r.Items, func(i publish.ItemReport) bool {
		return slices.ContainsFunc(i.Changes, func(c publish.Change) bool {
			return slices.Contains([]publish.Status{publish.Pushed, publish.Merged, publish.Deleted, publish.Restored}, c.Status)
		})
	})
}
