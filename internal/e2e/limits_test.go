package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestListingKeepsToQuaysLimits lists a large organisation of a Quay that allows
// 25 requests at once and 5 a second: each is needed, and none comes too early.
func TestListingKeepsToQuaysLimits(t *testing.T) {
	t.Parallel()
	const repositories, fresh = 1876, 20 // 39 requests
	since := time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)
	s := quaytest.New(quaytest.Options{RateLimits: true})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	err := s.BulkRepositories(t.Context(), "kolla", repositories, func(i int) quaytest.BulkRepository {
		set := since.AddDate(0, -1, 0)
		if i%(repositories/fresh) == 0 && i < repositories/fresh*fresh {
			set = since
		}
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%04d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: set}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Start()
	t.Cleanup(r.Close)
	s.Reset()
	got := must(t, "--plain-http", "--quay-host", r.Host, "-O", "jsonl", "list", "quay://kolla?since=2026-01-20")
	if n := strings.Count(got.stdout, "\n"); n != fresh {
		t.Errorf("%d images, want %d", n, fresh)
	}
	// "limited" isn't among them: no 429 was given.
	if want := map[string]int{"api.repositories": 19, "api.tags": fresh}; !maps.Equal(s.Counts(), want) {
		t.Errorf("requests %v, want %v", s.Counts(), want)
	}
}
