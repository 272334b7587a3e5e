package quaytest

import (
	"context"
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// A BulkRepository is one of many; see [Server.BulkRepositories].
type BulkRepository struct {
	Name    string // without the namespace; may hold "/"
	Private bool
	Tags    []BulkTag
}

// A BulkTag is one tag of a [BulkRepository]. Images may be the same in many.
type BulkTag struct {
	Name  string
	Image imagetest.Image
	Start time.Time // zero: now
}

// BulkRepositories makes n repositories in ns, and ns if it is missing. Blobs
// that images share are stored once, so that thousands cost little.
func (s *Server) BulkRepositories(ctx context.Context, ns string, n int, repo func(i int) BulkRepository) error {
	for i := range n {
		b := repo(i)
		full := ns + "/" + b.Name
		r := s.repositoryFor(full, !b.Private)
		for _, t := range b.Tags {
			if err := s.put(ctx, r, t.Image); err != nil {
				return fmt.Errorf("push %s:%s: %w", full, t.Name, err)
			}
			start := t.Start
			if start.IsZero() {
				start = s.now()
			}
			if err := s.SetTag(full, t.Name, t.Image.Desc.Digest, start, time.Time{}); err != nil {
				return err
			}
		}
	}
	return nil
}
