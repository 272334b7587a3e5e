package cli

import (
	"context"
	"errors"
	"fmt"
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
	report, err := d.do(ctx, o.Publisher)
	if report != nil {
		if err == nil && d.event != nil && !d.flags.dryRun {
			events.write(d.event(report))
		}
		if e := a.writeReport(report); e != nil {
			err = errors.Join(err, e)
		}
	}
	events.write("stop", map[string]any{"command": d.command, "failed": err != nil})
	if e := events.close(); e != nil {
		err = errors.Join(err, e)
	}
	if report == nil {
		return hinted(err)
	}
	if e := a.printChanges(report, d.flags.events == "-"); e != nil {
		return e
	}
	return a.published(report, err)
}

// published says on stderr how a run ended, and gives the error that is left to be told.
func (a *app) published(r *publish.Report, err error) error {
	told := false
	for _, i := range r.Items {
		for _, c := range i.Changes {
			for _, w := range c.Warnings {
				a.warnf(c.Reference + ": " + w)
			}
			if c.Status == publish.Failed || c.Status == publish.Conflict {
				told = told || c.Error != ""
				a.tellFailure(c)
			}
		}
		if i.Error != "" && len(r.Items) > 1 {
			told = true
			fmt.Fprintf(a.talk, "Failed: %s\n", oneLine(strings.ReplaceAll(i.Source+": "+i.Error, "\n", "; ")))
		}
	}
	for _, c := range r.Undone {
		if c.Status == publish.Failed || c.Status == publish.Conflict {
			told = told || c.Error != ""
			a.tellFailure(c)
		}
	}
	a.sayf("%s", totalsText(r))
	if r.Journal != "" && wrote(r) {
		a.sayf("To undo it: quaymaster rollback --journal %s", r.Journal)
	}
	if err != nil {
		a.tellHints(err)
	}
	if err == nil || !told || errors.Is(err, oci.ErrUsage) || errors.Is(err, oci.ErrRefused) {
		return err
	}
	return errors.Join(errReported, err)
}

func (a *app) tellFailure(c publish.Change) {
	if c.Error != "" {
		fmt.Fprintf(a.talk, "Failed: %s\n", oneLine(strings.ReplaceAll(c.Reference+": "+c.Error, "\n", "; ")))
	}
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
