package publish

import (
	"testing"
)

// What a tag means is let go of as soon as it was read and nobody needs it again.
func TestPushHoldsNoManifestsOfTags(t *testing.T) {
	onStages(t, func(p *stage) {
		p.push("src:1", newIndex)
		p.push("a:1", oldIndex)
		p.push("a:2", oldSingle)
		plan := &Plan{Items: []PlanItem{{Source: p.ref("src:1"), Dests: []Destination{{Ref: p.ref("a:1")}, {Ref: p.ref("a:2")}, {Ref: p.ref("b:1")}}}}}
		for _, guards := range []bool{false, true} {
			pub := p.publisher()
			pub.GuardOld = guards
			s := newPush(begun(t, pub, "push"), plan, PushOptions{}, &Report{})
			if err := s.classifyAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.readAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			for n, d := range s.items[0].dests[:2] {
				if d.err != nil || d.flow != simple || (d.old.Raw != nil) != guards || d.old.digest() == "" {
					t.Errorf("guards %t, tag %d: %v, %+v", guards, n, d.err, d.old)
				}
			}
		}
	})
}
