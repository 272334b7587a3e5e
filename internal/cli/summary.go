package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/quaymaster/quaymaster/oci"
)

// summary prints what a run did: one line of sums, what the user should know
// besides, and each failure by name.
func (a *app) summary(r *oci.Report, retries int64) {
	t := r.Totals
	if t.Images == 0 && r.Error != "" {
		return // nothing was begun; the error says why
	}
	line := fmt.Sprintf("%d/%d images", t.Copied+t.Skipped, t.Images)
	if t.Skipped > 0 {
		line += fmt.Sprintf(" (%d up to date)", t.Skipped)
	}
	verified := ""
	if t.Verified > 0 {
		verified = fmt.Sprintf(", %d verified", t.Verified)
	}
	a.sayf("Summary: %s, %s, %s moved, %s saved by sharing, %s, %s%s", line, count(t.Layers, "layer"),
		bytesText(t.BytesMoved), bytesText(t.BytesShared), seconds(time.Duration(t.Seconds*float64(time.Second))), retriesText(retries), verified)
	if t.Rewritten > 0 {
		a.sayf("%s written with another digest than the source's, because platforms were chosen or filters changed it", count(t.Rewritten, "image"))
	}
	if t.Signatures > 0 {
		a.sayf("%s not copied; --companions copies them", count(t.Signatures, "signature"))
	}
	if t.Hidden > 0 {
		a.sayf("%s not visible to these credentials", count(t.Hidden, "repository"))
	}
	for _, c := range r.Created {
		a.sayf("Created %s (%s)", c.Repository, cmp.Or(c.Visibility, "visibility unknown"))
	}
	a.failures(r)
}

func retriesText(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return fmt.Sprintf("%d retries", n)
}

// failures names what failed, also with --quiet.
func (a *app) failures(r *oci.Report) {
	if r.Totals.Failed == 0 && r.Totals.Interrupted == 0 {
		if r.Error == "" {
			a.sayf("No failed images.")
		}
		return
	}
	for _, i := range r.Images {
		if i.Status == oci.StatusFailed {
			fmt.Fprintf(a.talk, "Failed: %s\n", oneLine(strings.ReplaceAll(failureText(i), "\n", "; ")))
		}
	}
	if n := r.Totals.Interrupted; n > 0 {
		fmt.Fprintf(a.talk, "Interrupted: %s not finished; run the command again and it goes on\n", count(n, "image"))
	}
}

func failureText(i oci.ImageReport) string {
	text := i.Reference + ": "
	if i.Step == "" {
		return text + i.Error
	}
	// The error may begin with the step, and with the reference behind it.
	cause, ok := strings.CutPrefix(i.Error, i.Step+" "+i.Reference+": ")
	if !ok && strings.HasPrefix(i.Error, i.Step) {
		return text + i.Error
	}
	return text + i.Step + ": " + cause
}

// plan prints a dry run: data, so it goes to stdout.
func (a *app) plan(r *oci.Report) error {
	if a.work.output != "text" {
		return a.printJSON(r)
	}
	unknown := 0
	for _, i := range r.Images {
		size := bytesText(i.BytesMoved) + " to move, " + bytesText(i.BytesShared) + " there already"
		if i.Status == oci.StatusPlanned && i.BytesMoved == 0 && i.BytesShared == 0 { // each image has a config
			size = "size unknown until a daemon streams it"
			unknown++
		}
		action := "copy"
		switch i.Status {
		case oci.StatusSkipped:
			action = "skip"
		case oci.StatusFailed:
			action = "fail"
		}
		if _, err := fmt.Fprintln(a.out, oneLine(fmt.Sprintf("%s  %s  ->  %s  %s", action, i.Reference, i.Destination, size))); err != nil {
			return err
		}
	}
	t := r.Totals
	moved := bytesText(t.BytesMoved)
	if unknown > 0 {
		moved += fmt.Sprintf(" and %d of unknown size", unknown)
	}
	a.sayf("Plan: %d to copy, %d up to date, %s to move, %s there already or shared; nothing was written",
		t.Planned, t.Skipped, moved, bytesText(t.BytesShared))
	if t.Failed > 0 {
		a.failures(r)
	}
	return nil
}

// checkReport sees to it, before anything is begun, that --report can be written.
func (a *app) checkReport() error {
	if a.work.report == "" {
		return nil
	}
	if fi, err := os.Stat(filepath.Dir(a.work.report)); err != nil || !fi.IsDir() {
		return oci.Usage(fmt.Sprintf("--report %s: there is no folder for it", a.work.report))
	}
	if fi, err := os.Stat(a.work.report); err == nil && fi.IsDir() {
		return oci.Usage(fmt.Sprintf("--report %s: that is a folder; name a file in it", a.work.report))
	}
	return nil
}

// writeReport writes r to --report: a file whole or not at all, and never in place
// of a device or a link.
func (a *app) writeReport(r any) error {
	if a.work.report == "" {
		return nil
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if fi, e := os.Lstat(a.work.report); e == nil && !fi.Mode().IsRegular() {
		err = os.WriteFile(a.work.report, raw, 0o644)
	} else {
		err = renameio.WriteFile(a.work.report, raw, 0o644)
	}
	return oci.Wrap(err, "write report", a.work.report, oci.Descriptor{})
}
