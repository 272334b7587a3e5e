package publish_test

import (
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// Repositories that aren't there come into being, whoever asks: a Quay hides what isn't
// there from some, says so to others, and creates it for those who ask to push.
func TestRepositoriesThatAreNotThere(t *testing.T) {
	logins := map[string]struct {
		robot bool // else the administrator himself
		token bool // of the administrator, for the API
	}{
		"robot": {true, false}, "robot and API token": {true, true},
		"user": {false, false}, "user and API token": {false, true},
	}
	guard := publish.Guard{Template: publish.DefaultGuard}
	verbs := map[string]func(p *publish.Publisher, source, dest oci.Ref) (*publish.Report, error){
		"tag": func(p *publish.Publisher, source, dest oci.Ref) (*publish.Report, error) {
			return p.Tag(t.Context(), source, []oci.Ref{dest}, publish.TagOptions{Guard: guard})
		},
		"merge": func(p *publish.Publisher, source, dest oci.Ref) (*publish.Report, error) {
			return p.Merge(t.Context(), source, dest, publish.MergeOptions{Guard: guard})
		},
		"merge that chooses": func(p *publish.Publisher, source, dest oci.Ref) (*publish.Report, error) {
			return p.Merge(t.Context(), source, dest, publish.MergeOptions{Select: publish.Selection{Only: []oci.Platform{linuxARM64}}})
		},
		"push": func(p *publish.Publisher, source, dest oci.Ref) (*publish.Report, error) {
			text := "- pull_url: " + source.String() + "\n  tags:\n    " + dest.Repository + ": [" + dest.Tag + "]\n"
			plan, err := publish.ParsePlan("plan.yaml", []byte(text), publish.PlanOptions{Registry: dest.Registry})
			if err != nil {
				return nil, err
			}
			return p.Push(t.Context(), plan, publish.PushOptions{MergeOptions: publish.MergeOptions{Guard: guard}})
		},
	}
	for who, login := range logins {
		for verb, do := range verbs {
			t.Run(verb+" by a "+who, func(t *testing.T) {
				from, c := plainArena(t), newCast()
				from.push("src/a:1", c.fresh())
				s := quaytest.New(quaytest.Options{TagCache: -1})
				s.CreateUser("alice", "a-password")
				s.CreateOrg("org", "alice")
				name, password := "org+bot", s.AddRobot("org", "bot")
				if err := s.AddTeam("org", "makers", "creator", name); err != nil {
					t.Fatal(err)
				}
				if err := s.SetDefault("org", name, "write"); err != nil {
					t.Fatal(err)
				}
				if !login.robot {
					name, password = "alice", "a-password"
				}
				a := &arena{t: t, quay: s}
				a.serve(s, func(host string) transport.CredentialFunc { return transport.Fixed(host, name, password) })
				if login.token {
					a.env.QuayHost, a.env.APIToken = a.host, s.AddToken("alice", "repo:read", "repo:write", "repo:admin", "repo:create")
				}
				for _, dry := range []bool{true, false} {
					p := &publish.Publisher{Source: from.env, Dest: a.env, Companions: true, GuardOld: true, DryRun: dry}
					if _, err := do(p, from.ref("src/a:1"), a.ref("org/new:1")); err != nil {
						t.Fatalf("dry run %t: %v", dry, err)
					}
					if dry && len(a.requests("GET", "HEAD")) > 0 {
						t.Errorf("a dry run wrote: %q", a.requests("GET", "HEAD"))
					}
					if asked := strings.Join(a.requests("GET"), " "); dry && login.robot && login.token && strings.Contains(asked, "sha256:") {
						t.Errorf("what isn't there was asked for its images: %s", asked)
					}
				}
				if _, raw := a.get("org/new:1"); raw == nil || verb != "merge that chooses" && string(raw) != string(c.fresh().Raw) {
					t.Errorf("it means %s", raw)
				}
			})
		}
	}
}
