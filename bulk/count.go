package bulk

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/oci"
)

// transfers counts what a run's blobs did, by the names in docs/report.md.
type transfers struct {
	fetched      atomic.Int64 // blobs that were read to their end at the source
	fetchedBytes atomic.Int64 // all that was read there, also of reads that broke off
	put          atomic.Int64
	mounted      atomic.Int64
	refused      atomic.Int64 // mounts
	relayed      atomic.Int64 // blobs that were read at the destination, for another repository
	shared       atomic.Int64 // uploads that another's read fed
	asked        atomic.Int64 // whether a blob is there
	present      atomic.Int64 // of those, yes
	takenOver    atomic.Int64 // transfers begun again for another image

	filtered  atomic.Int64 // layers that filters made others of
	unchanged atomic.Int64 // layers that filters left as they were
	refetched atomic.Int64 // of those, that were read at the source a second time
	recoded   atomic.Int64 // layers that were compressed otherwise
	fromCache atomic.Int64 // layers of which an earlier run knew what they come to
	restarted atomic.Int64 // passes over layers that had to begin again
}

func (t *transfers) report() map[string]int64 {
	return map[string]int64{
		"blobs_fetched": t.fetched.Load(),
		"bytes_fetched": t.fetchedBytes.Load(),
		"blobs_put":     t.put.Load(),
		"blobs_mounted": t.mounted.Load(),
		"mounts_denied": t.refused.Load(),
		"blobs_relayed": t.relayed.Load(),
		"blobs_shared":  t.shared.Load(),
		"blobs_asked":   t.asked.Load(),
		"blobs_present": t.present.Load(),
		"taken_over":    t.takenOver.Load(),

		"layers_filtered":            t.filtered.Load(),
		"layers_unchanged":           t.unchanged.Load(),
		"layers_unchanged_refetched": t.refetched.Load(),
		"layers_recoded":             t.recoded.Load(),
		"layers_from_cache":          t.fromCache.Load(),
		"passes_restarted":           t.restarted.Load(),
	}
}

// A counted is a source whose blobs are counted.
type counted struct {
	oci.Source
	blobs *atomic.Int64 // read to their end
	bytes func(int64)
}

func (c counted) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	rc, err := c.Source.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	return &meter{ReadCloser: rc, counted: c, left: d.Size}, nil
}

// meterStep is how many bytes are counted together.
const meterStep = 256 << 10

type meter struct {
	io.ReadCloser
	counted
	left    int64 // bytes to the end; negative if nobody knows
	pending int64
	ended   bool
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.left -= int64(n)
	if m.pending += int64(n); m.pending >= meterStep {
		m.flush()
	}
	// Who knows the size may never read the end of file.
	if whole := err == io.EOF || err == nil && m.left == 0; whole && !m.ended {
		m.ended = true
		m.blobs.Add(1)
	}
	return n, err
}

// Checks makes it [oci.Checked].
func (m *meter) Checks(d oci.Digest) bool { return oci.Checks(m.ReadCloser, d) }

func (m *meter) flush() {
	if m.pending > 0 {
		m.bytes(m.pending)
	}
	m.pending = 0
}

func (m *meter) Close() error {
	m.flush()
	return m.ReadCloser.Close()
}
