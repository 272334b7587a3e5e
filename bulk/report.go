package bulk

import (
	"context"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// report sums the run up. err is what ended it or its listing.
func (r *run) report(ctx context.Context, err error) *oci.Report {
	now := time.Now()
	rep := &oci.Report{
		Version: oci.ReportVersion, Started: r.started.UTC(), Ended: now.UTC(),
		DryRun: r.opt.DryRun, Interrupted: ctx.Err() != nil,
		Images: r.images, Created: []oci.CreatedRepository{}, Transfers: r.count.report(),
	}
	if rep.Images == nil {
		rep.Images = []oci.ImageReport{}
	}
	if err != nil {
		rep.Error = err.Error()
	}
	rep.Listing = r.summary(ctx)
	if c, ok := r.dst.(oci.Creator); ok {
		rep.Created = append(rep.Created, c.Created()...)
	}
	rep.Totals = totals(rep.Images)
	rep.Totals.Signatures, rep.Totals.Hidden = rep.Listing.Companions, len(rep.Listing.Hidden)
	rep.Totals.Seconds = now.Sub(r.started).Seconds()
	return rep
}

// summary is what the listing says of itself, or what was seen of it.
func (r *run) summary(ctx context.Context) oci.Listing {
	l := oci.Listing{Found: len(r.images), Done: r.listing == nil && !r.cut && ctx.Err() == nil}
	if r.progress.lister != nil {
		l = r.progress.lister.Listing()
	}
	if l.Hidden == nil {
		l.Hidden = []string{}
	}
	return l
}

func totals(images []oci.ImageReport) oci.Totals {
	t := oci.Totals{Images: len(images)}
	for _, i := range images {
		switch i.Status {
		case oci.StatusCopied:
			t.Copied++
		case oci.StatusSkipped:
			t.Skipped++
		case oci.StatusPlanned:
			t.Planned++
		case oci.StatusFailed:
			t.Failed++
		case oci.StatusInterrupted:
			t.Interrupted++
		}
		if i.Verified {
			t.Verified++
		}
		if i.Written != "" && i.Digest != "" && !i.Undone() && i.Status != oci.StatusSkipped {
			t.Rewritten++
		}
		if len(i.LeftOut) > 0 {
			t.LeftOut++
		}
		t.Layers += i.Layers
		t.BytesMoved += i.BytesMoved
		t.BytesShared += i.BytesShared
	}
	return t
}
