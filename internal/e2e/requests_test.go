package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestSecondRunCostsARequestASide counts what a run asks that has nothing to do:
// one request a side and image, tokens apart. A Quay says with its list of a
// repository's tags what they mean, so that is its request; of a list of
// references each is asked for.
func TestSecondRunCostsARequestASide(t *testing.T) {
	const images = 40
	from := startQuay(t, quaytest.Options{}, nil)
	from.fill(t, images, 3000)
	list := filepath.Join(t.TempDir(), "list")
	lines := strings.Join(slices.Sorted(maps.Keys(from.names())), "\n")
	if err := os.WriteFile(list, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, source string
		scheme       string // "": to a Quay
		asks         map[string]int
	}{
		{"quay to quay", from.source(), "", map[string]int{"api.repositories": 1, "api.tags": images}},
		{"quay to ocidir", from.source(), "ocidir://", map[string]int{"api.repositories": 1, "api.tags": images}},
		{"quay to dir", from.source(), "dir://", map[string]int{"api.repositories": 1, "api.tags": images}},
		{"list to quay", "list://" + list, "", map[string]int{"v2.manifest.head": images}},
		{"list to ocidir", "list://" + list, "ocidir://", map[string]int{"v2.manifest.head": images}},
		{"list to dir", "list://" + list, "dir://", map[string]int{"v2.manifest.get": images}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to, args := mirror(t, quaytest.Options{})
			if tt.scheme != "" {
				args = []string{tt.scheme + filepath.Join(t.TempDir(), "out"), "--rate-limit", "0"}
			}
			args = append([]string{tt.source}, args...)
			processed(t, args...)
			from.Reset()
			to.Reset()
			second := processed(t, args...)
			if !strings.Contains(second.stderr, "(40 up to date)") || !strings.Contains(second.stderr, " 0 B moved") {
				t.Errorf("the second run says\n%s", second.stderr)
			}
			from.asked(t, tt.asks)
			if tt.scheme == "" {
				to.asked(t, map[string]int{"v2.manifest.head": images})
			}
		})
	}
}

// asked compares the requests to q since its Reset with want, tokens apart:
// those are at most one a repository, and one request to learn where to get them.
func (q *quay) asked(t *testing.T, want map[string]int) {
	t.Helper()
	got := q.Counts()
	if got["v2.ping"] > 1 {
		t.Errorf("%d requests to learn where tokens come from", got["v2.ping"])
	}
	if tokens := got["v2.auth"]; tokens > 40 {
		t.Errorf("%d requests for tokens", tokens)
	}
	delete(got, "v2.auth")
	delete(got, "v2.ping")
	if !maps.Equal(got, want) {
		t.Errorf("%s was asked %v, want %v", q.host, got, want)
	}
	q.movedNothing(t)
}
