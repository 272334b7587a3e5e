package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestPushRefusals(t *testing.T) {
	t.Run("A33 single images that aren't allowed", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.opt.DisallowSingle, s.pub.Rollback = true, publish.Never
		s.from.push("src/list:1", s.cast.fresh())
		s.from.push("src/single:1", s.cast.image("amd64=1"))
		s.from.push("src/source:1", s.cast.image("amd64=2"))
		s.to.on(nil)
		r, err := s.push("src/list:1 > a:1", "src/single:1 > b:1", "src/source:1 source > c:1")
		if !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), "single image") {
			t.Errorf("got %v, want a refusal", err)
		}
		s.is(r, "org/a:1 skipped, org/b:1 failed, org/c:1 skipped")
		s.untouched()
		s.is(s.mustPush("src/list:1 > a:1", "src/source:1 source > c:1"), "org/a:1 pushed, org/c:1 pushed")
	})
	t.Run("denied repositories", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.opt.Deny = []string{"org/secret-*", s.to.host + "/org/x?"}
		s.from.on(nil)
		s.to.on(nil)
		_, err := s.push("src/a:1 > secret-a:1,2,3 xy:2 a:1", "src/b:1 > secret-a:4")
		want := fmt.Sprintf("item 1: %[1]s/org/secret-a is denied by \"org/secret-*\"\nitem 1: %[1]s/org/xy is denied by \"%[1]s/org/x?\"", s.to.host)
		if !errors.Is(err, oci.ErrRefused) || err.Error() != want {
			t.Errorf("got %v, want two refused, each once", err)
		}
		if len(s.from.requests())+len(s.to.requests()) != 0 {
			t.Error("something was asked")
		}
	})
	t.Run("what has to be on stage", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.opt.RequireExistsIn = s.from.host + "/stage/x"
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		s.from.push("stage/x/ns----a:1", s.cast.image("amd64=2"))
		s.to.on(nil)
		_, err := s.push("src/a:1 > ns/a:1,2")
		if !errors.Is(err, oci.ErrRefused) || !strings.Contains(err.Error(), "stage/x/ns----a:2") || strings.Contains(err.Error(), "ns----a:1 ") {
			t.Errorf("got %v, want the second tag's refusal", err)
		}
		s.untouched()
		s.is(s.mustPush("src/a:1 > ns/a:1"), "org/ns----a:1 pushed")
	})
	t.Run("each tag that isn't on stage is told once", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.opt.RequireExistsIn = s.from.host + "/stage"
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		s.from.push("stage/a:2", s.cast.image("amd64=2"))
		r, err := s.push("src/a:1 > a:1,2,3")
		if !errors.Is(err, oci.ErrRefused) {
			t.Errorf("got %v, want a refusal", err)
		}
		s.is(r, "org/a:1 failed, org/a:2 skipped, org/a:3 failed")
		for _, c := range r.Items[0].Changes {
			for _, other := range []string{"1", "2", "3"} {
				if name := s.from.host + "/stage/a:" + other + " has"; strings.Contains(c.Error, name) && !strings.HasSuffix(c.Reference, ":"+other) {
					t.Errorf("of %s it is said that %s", c.Reference, c.Error)
				}
			}
		}
	})
	t.Run("a stage at the destination is asked as who pushes there", func(t *testing.T) {
		s := newStage(t, quayArena)
		s.opt.RequireExistsIn = s.to.host + "/org"
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		if err := s.to.quay.CreateRepository("org", "a", false); err != nil {
			t.Fatal(err)
		}
		s.to.push("org/a:1", s.cast.image("amd64=2"))
		s.is(s.mustPush("src/a:1 > a:1"), "org/a:1 pushed")
	})
	t.Run("options that can't be", func(t *testing.T) {
		s := newStage(t, plainArena)
		for _, opt := range []publish.PushOptions{
			{Merge: "always"},
			{RequireExistsIn: "nowhere"},
			{RequireExistsIn: "quay.io/a:1"},
			{MergeOptions: publish.MergeOptions{Guard: publish.Guard{Template: "{tag}"}}},
			{MergeOptions: publish.MergeOptions{Hooks: publish.Hooks{Sign: []string{"/nowhere/signer"}}}},
			{MergeOptions: publish.MergeOptions{Hooks: publish.Hooks{Attest: []string{"no-such-program"}}}},
			{MergeOptions: publish.MergeOptions{Select: publish.Selection{Only: []oci.Platform{imagetest.Linux}}}},
		} {
			s.opt = opt
			if _, err := s.push("src/a:1 > a:1"); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%+v gave %v, want a usage error", opt, err)
			}
		}
	})
	t.Run("plans that nobody parsed", func(t *testing.T) {
		s := newStage(t, plainArena)
		good := s.plan(itemLines("src/a:1 > a:1"))
		for name, change := range map[string]func(i *publish.PlanItem){
			"a tag twice": func(i *publish.PlanItem) { i.Dests = append(i.Dests, i.Dests[0]) },
			"no tag": func(i *publish.PlanItem) {
				i.Dests = []publish.Destination{{Ref: oci.Ref{Registry: s.to.host, Repository: "a"}}}
			},
			"no tags":   func(i *publish.PlanItem) { i.Dests = nil },
			"no source": func(i *publish.PlanItem) { i.Source.Tag = "" },
		} {
			item := good.Items[0]
			change(&item)
			if _, err := s.pub.Push(t.Context(), &publish.Plan{Items: []publish.PlanItem{item}}, s.opt); !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%s gave %v, want a usage error", name, err)
			}
		}
	})
	t.Run("a kind that the source isn't", func(t *testing.T) {
		s := newStage(t, plainArena)
		s.from.push("src/a:1", s.cast.image("amd64=1"))
		if _, err := s.push("src/a:1 multiarch > a:1"); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("got %v, want invalid content", err)
		}
	})
}
