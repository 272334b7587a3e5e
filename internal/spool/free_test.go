package spool

import (
	"io"
	"strings"
	"testing"
)

func TestFreeTakesOneContent(t *testing.T) {
	p := &Pile{Dir: t.TempDir(), What: "layers"}
	defer p.Close()
	var all []*Section
	for _, c := range []string{"a", "b", "c"} {
		s, err := p.Add(t.Context(), strings.NewReader(strings.Repeat(c, 10_000)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	all[1].Free()
	for i, c := range []string{"a", "", "c"} {
		if c == "" {
			continue
		}
		r, err := all[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat(c, 10_000) {
			t.Errorf("content %d is damaged: %d bytes, %v", i, len(got), err)
		}
	}
}
