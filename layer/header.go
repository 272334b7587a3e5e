package layer

import (
	"archive/tar"
	"fmt"
	"maps"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// header writes a header as USTAR where that holds all of it, else with PAX
// records, else (a mode or a device number beyond any) as GNU.
func (t *tail) header(in *tar.Header) error {
	h := *in
	h.Format = tar.FormatPAX // which archive/tar takes for: USTAR if it will do
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		h.Name = strings.TrimRight(h.Name, "/") // readers take it for what its type says
	case tar.TypeGNUSparse:
		h.Typeflag = tar.TypeReg
	}
	if !hasBody(h.Typeflag) {
		h.Size = 0
	}
	if h.Typeflag != tar.TypeChar && h.Typeflag != tar.TypeBlock {
		h.Devmajor, h.Devminor = 0, 0 // what a reader ignores must not ask for another format
	}
	for k := range h.PAXRecords {
		if isMirror(k) { // a filter's; the fields are what counts
			h.PAXRecords = maps.Clone(h.PAXRecords)
			maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return isMirror(k) })
			break
		}
	}
	err := t.write(&h)
	if err != nil && t.failed == nil && h.PAXRecords == nil && wholeSeconds(&h) {
		h.Format = tar.FormatGNU
		err = t.write(&h)
	}
	if err != nil && t.failed == nil {
		return fmt.Errorf("layer: %w: no tar can hold the header of %q: %w", oci.ErrInvalid, in.Name, err)
	}
	return err
}

// wholeSeconds tells whether GNU's header, which has no fractions of a second,
// can hold the times of h.
func wholeSeconds(h *tar.Header) bool {
	return h.ModTime.Nanosecond() == 0 && h.AccessTime.Nanosecond() == 0 && h.ChangeTime.Nanosecond() == 0
}

// write tells an error of the destination (failed) from a header that can't be
// written, which leaves no trace in the tar.
func (t *tail) write(h *tar.Header) error {
	if err := t.tw.Flush(); err != nil {
		t.failed = err
		return err
	}
	n := t.sum.n
	err := t.tw.WriteHeader(h)
	if err != nil && (t.sum.failed || t.sum.n != n) {
		t.failed = err
	}
	return err
}

// global writes a PAX global header in its place. Filters don't see it, for it
// is no entry; what it says of the entries behind it is left out, since those
// who unpack layers don't heed it and others would.
func (t *tail) global(h *tar.Header) error {
	if h.PAXRecords == nil || t.links.again() {
		return nil
	}
	return t.write(&tar.Header{Name: h.Name, Typeflag: tar.TypeXGlobalHeader, PAXRecords: h.PAXRecords, Format: tar.FormatPAX})
}
