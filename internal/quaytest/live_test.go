package quaytest_test

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// runLive runs the cases against the Quay that the environment names.
func runLive(t *testing.T, getenv func(string) string) (ran int) {
	live := newLiveEnv(t, getenv)
	if live == nil {
		return 0
	}
	for _, c := range contractCases {
		name := fmt.Sprintf("live/%02d %s", c.n, c.name)
		if c.needs != nil {
			if what := c.needs(live); what != "" {
				t.Logf("%s: not run: needs %s", name, what)
				continue
			}
		}
		ran++
		t.Run(name, func(t *testing.T) { c.run(t, live) })
	}
	return ran
}

// TestLiveMode takes a fake for a live Quay: the live run makes and removes
// what it needs by HTTP alone.
func TestLiveMode(t *testing.T) {
	s := quaytest.New(quaytest.Options{RepoMirror: true})
	s.CreateUser("carol", "")
	s.CreateUser("dave", "")
	s.CreateOrg("acme", "carol")
	bot := s.AddRobot("acme", "reader")
	check(t, s.SetDefault("acme", "acme+reader", "read"))
	check(t, s.BulkRepositories(t.Context(), "crowd", 250, func(i int) quaytest.BulkRepository {
		return quaytest.BulkRepository{Name: fmt.Sprint("r", i)}
	}))
	admin := s.AddToken("carol", "repo:admin", "repo:create")
	run := s.Start()
	defer run.Close()
	vars := map[string]string{
		"QUAYTEST_URL": run.URL, "QUAYTEST_ORG": "acme", "QUAYTEST_ADMIN_TOKEN": admin,
		"QUAYTEST_OTHER_TOKEN": s.AddToken("dave", "repo:read"), "QUAYTEST_ROBOT": "acme+reader", "QUAYTEST_ROBOT_TOKEN": bot,
		"QUAYTEST_BIG_ORG": "crowd", "QUAYTEST_REPO_MIRROR": "1",
	}
	t.Run("cases", func(t *testing.T) {
		const notLive = 3 // 45, 51, 55
		want(t, "cases run", runLive(t, func(name string) string { return vars[name] }), len(contractCases)-notLive)
	})
	left := (&env{base: run.URL}).get(t, repositories+"?namespace=acme", "Bearer "+admin)
	want(t, "repositories left over", left.json(t), any(map[string]any{"repositories": []any{}}))
}

// newLiveEnv makes the fixture on the Quay that getenv names, nil if it names
// none. Everything that it made goes with the test.
func newLiveEnv(t *testing.T, getenv func(string) string) *env {
	t.Helper()
	base := strings.TrimSuffix(getenv("QUAYTEST_URL"), "/")
	if base == "" {
		return nil
	}
	u, err := url.Parse(base)
	check(t, err)
	must := func(name string) string {
		v := getenv(name)
		if v == "" {
			t.Fatalf("QUAYTEST_URL is set, so %s must be set too; see docs/recipes/live-quay.md", name)
		}
		return v
	}
	e := &env{
		base: base, host: u.Host,
		org:   must("QUAYTEST_ORG"),
		admin: must("QUAYTEST_ADMIN_TOKEN"), other: must("QUAYTEST_OTHER_TOKEN"), expired: getenv("QUAYTEST_EXPIRED_TOKEN"),
		user: "$oauthtoken", password: must("QUAYTEST_ADMIN_TOKEN"),
		robot: must("QUAYTEST_ROBOT"), secret: must("QUAYTEST_ROBOT_TOKEN"),
		big: getenv("QUAYTEST_BIG_ORG"), repoMirror: getenv("QUAYTEST_REPO_MIRROR") != "",
		prefix: "quaytest-" + strings.ToLower(rand.Text()[:8]) + "-",
		pace:   time.Second,
	}
	for _, r := range fixture {
		visibility := "private"
		if r.public {
			visibility = "public"
		}
		e.create(t, e.prefix+r.name, visibility)
		for _, tag := range r.tags {
			e.push(t, e.repo(r.name), tag.name, tag.image)
		}
	}
	return e
}
