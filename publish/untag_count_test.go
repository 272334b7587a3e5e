package publish_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/publish"
)

// Counted is every request that the registry answers, but for those that are about
// authorization: to the token service, and such as it answers with 401.
func TestUntagCosts(t *testing.T) {
	const tags = 500
	fill := func(p *place, indexes int) {
		c := newCast()
		for i := range tags {
			p.push(fmt.Sprintf("name/repo:v%d", i), c.image(fmt.Sprintf("amd64=%d", i)))
		}
		for i := range indexes { // two tags on each, which costs nothing
			list := c.list(fmt.Sprintf("amd64=%d", i), fmt.Sprintf("arm64=%d", i))
			p.push(fmt.Sprintf("name/repo:list%d", i), list)
			p.push(fmt.Sprintf("name/repo:same%d", i), list)
		}
	}
	tests := []struct {
		name    string
		open    func(*testing.T) *place
		indexes int
		most    int
	}{
		// The list's 5 pages, 500 HEADs, and 5 for the tag that goes: who refers to
		// it, its manifest for the journal, HEAD, DELETE, HEAD.
		{"Quay without a token of its API", func(t *testing.T) *place { return quayPlace(t, quaytest.Options{TagCache: -1}, false) }, 0, 510},
		// Lists of any length come in one page.
		{"any other registry", plainPlace, 0, 506},
		{"Quay", func(t *testing.T) *place { return quayPlace(t, quaytest.Options{}, true) }, 0, 5 + 5},
		// 514 tags are 6 pages.
		{"Quay with indexes", func(t *testing.T) *place { return quayPlace(t, quaytest.Options{}, true) }, 7, 6 + 7 + 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := tt.open(t)
			fill(p, tt.indexes)
			p.answered()
			r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:v499"), publish.UntagOptions{RemoveLast: true})
			if err != nil {
				t.Fatal(err)
			}
			p.wantStatuses(r, "deleted name/repo:v499")
			asked := p.answered()
			kinds := map[string]int{}
			for _, req := range asked {
				method, path, _ := strings.Cut(req, " ")
				for _, word := range []string{"/tags/list", "/tag/", "/manifests/", "/referrers/"} {
					if strings.Contains(path, word) {
						kinds[method+" "+word]++
					}
				}
			}
			if len(asked) > tt.most {
				t.Errorf("%d requests, at most %d are due: %v", len(asked), tt.most, kinds)
			}
			t.Logf("%d requests: %v", len(asked), kinds)
		})
	}
}

// A refusal, and a plan, are found out with the same requests less those that delete.
func TestRefusalCosts(t *testing.T) {
	p := quayPlace(t, quaytest.Options{}, true)
	list := imagetest.Index(newCast().image("amd64=1"), newCast().image("arm64=1"))
	p.push("name/repo:1", list)
	p.answered()
	if _, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{}); err == nil {
		t.Fatal("no refusal")
	}
	if asked := p.answered(); len(asked) != 5 { // the tags, the index, who refers to each of the three
		t.Errorf("asked %q", asked)
	}
}
