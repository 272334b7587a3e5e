package quaytest_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// A contractCase is one row of the contract's table of tests.
type contractCase struct {
	n    int
	name string
	run  func(*testing.T, *env)

	set   func(*quaytest.Options) // how the fake is set up; nil: as Quay is by default
	needs func(*env) string       // what a live server lacks for it; nil or "" for nothing
}

// fakeOnly is for what a live server can't be set to.
func fakeOnly(what string) func(*env) string {
	return func(*env) string { return what }
}

var contractCases = slices.Concat(
	listCases, repositoryCases, tagListCases, tagChangeCases, manifestCases,
	v2AuthCases, v2TagCases, v2ManifestCases, v2BlobCases, limitCases,
)

// TestContract runs every case against the fake, each against one of its own,
// and all of them against a live Quay if QUAYTEST_URL is set
// (docs/recipes/live-quay.md).
func TestContract(t *testing.T) {
	for i, c := range contractCases {
		if slices.ContainsFunc(contractCases[:i], func(o contractCase) bool { return o.n == c.n }) {
			t.Errorf("case %d is there twice", c.n)
		}
	}
	const rows = 57
	for n := 1; n <= rows; n++ {
		if !slices.ContainsFunc(contractCases, func(c contractCase) bool { return c.n == n }) {
			t.Errorf("case %d is missing", n)
		}
	}
	for _, c := range contractCases {
		t.Run(fmt.Sprintf("fake/%02d %s", c.n, c.name), func(t *testing.T) {
			t.Parallel()
			o := quaytest.Options{}
			if c.set != nil {
				c.set(&o)
			}
			c.run(t, newFakeEnv(t, o))
		})
	}
	runLive(t, os.Getenv)
}

// limitCases are about section 7.
var limitCases = []contractCase{{
	n: 55, name: "thirty quick calls meet the limit",
	needs: fakeOnly("rate limits, and nobody else behind our address"),
	set:   func(o *quaytest.Options) { o.RateLimits = true },
	run: func(t *testing.T, e *env) {
		for i := range 30 {
			r := e.get(t, "/api/v1/repository?public=true&namespace="+e.org, "")
			if i < 26 { // nginx lets the burst of 25 follow the first
				want(t, fmt.Sprintf("status of call %d", i+1), r.status, 200)
				continue
			}
			want(t, fmt.Sprintf("status of call %d", i+1), r.status, 429)
			want(t, "Content-Type", r.header.Get("Content-Type"), "text/html")
			want(t, "Retry-After", r.header.Values("Retry-After"), nil)
		}
		e.clock.add(time.Second)
		for i := range 6 {
			status := 200
			if i == 5 {
				status = 429
			}
			want(t, fmt.Sprintf("status of call %d, a second later", i+1), e.get(t, "/api/v1/repository?public=true", "").status, status)
		}
	},
}}
