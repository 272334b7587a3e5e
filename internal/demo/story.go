package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// A story is the copying part of the demo: twice the same command.
type story struct {
	ctx     context.Context
	program program
	server  *quaytest.Server
	out     io.Writer
}

// copyAll runs process into the layout and gives its report.
func (s story) copyAll(name string) (oci.Report, error) {
	s.server.Reset()
	file := name + ".json"
	err := s.program.run(s.ctx, "process", "--report", file, "quay://"+org+"/*:2025.1-*", "ocidir://layout")
	if err != nil {
		return oci.Report{}, err
	}
	return report(filepath.Join(s.program.dir, file))
}

func (s story) layout() string { return filepath.Join(s.program.dir, "layout") }

// first copies everything and looks at the result.
func (s story) first(want map[string]oci.Digest) error {
	r, err := s.copyAll("first")
	if err != nil {
		return err
	}
	found, err := checkLayout(s.layout(), want)
	if err != nil {
		return fmt.Errorf("the layout: %w", err)
	}
	gets, twice := blobGets(s.server)
	fmt.Fprintf(s.out, `
found   %d images, each in the layout under the digest that Quay's API gives
moved   %d blobs, %s; each once
shared  %s that a copy image by image would have moved as well
checked %d files, %s: every digest, every descriptor
`, found.images, gets, size(r.Totals.BytesMoved), size(r.Totals.BytesShared), found.blobs, size(found.bytes))
	switch {
	case r.Totals.Copied != len(want) || r.Totals.Failed != 0:
		return fmt.Errorf("the report says %d copied and %d failed, want %d and 0", r.Totals.Copied, r.Totals.Failed, len(want))
	case r.Totals.Verified != len(want):
		return fmt.Errorf("the report says %d verified, want %d", r.Totals.Verified, len(want))
	case gets == 0 || twice > 0:
		return fmt.Errorf("%d blobs were fetched, %d of them more than once", gets, twice)
	case r.Totals.BytesShared <= r.Totals.BytesMoved:
		return fmt.Errorf("shared %d bytes, moved %d: sharing should save most of them", r.Totals.BytesShared, r.Totals.BytesMoved)
	}
	return nil
}

// second runs the same again: there is nothing to do.
func (s story) second(want map[string]oci.Digest) error {
	r, err := s.copyAll("second")
	if err != nil {
		return err
	}
	if _, err := checkLayout(s.layout(), want); err != nil {
		return fmt.Errorf("the layout after a second run: %w", err)
	}
	gets, _ := blobGets(s.server)
	fmt.Fprintf(s.out, "\nagain   %d images are there already; %d blobs moved\n", r.Totals.Skipped, gets)
	if gets != 0 || r.Totals.Skipped != len(want) {
		return fmt.Errorf("a second run fetched %d blobs and skipped %d images, want 0 and %d", gets, r.Totals.Skipped, len(want))
	}
	return nil
}

// blobGets counts the distinct blobs that were fetched, and those that were
// fetched more than once, from whatever repository.
func blobGets(server *quaytest.Server) (distinct, twice int) {
	times := map[oci.Digest]int{}
	for b, n := range server.Transfers().Gets {
		times[b.Digest] += n
	}
	for _, n := range times {
		if n > 1 {
			twice++
		}
	}
	return len(times), twice
}

// size shows bytes as a person reads them.
func size(n int64) string {
	if n < 10<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}
