package spool

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestLanesTakeContentsTogether(t *testing.T) {
	l := &Lanes{Dir: t.TempDir(), What: "layers"}
	var both sync.WaitGroup
	both.Add(2)
	got := make([]*Section, 10)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			r, w := io.Pipe()
			go func() {
				fmt.Fprint(w, "begun ")
				both.Done()
				both.Wait() // neither ends before both have begun
				fmt.Fprint(w, i)
				w.Close()
			}()
			s, err := l.Add(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = s
		})
	}
	wg.Wait()
	for i := 2; i < len(got); i++ {
		s, err := l.Add(t.Context(), strings.NewReader(fmt.Sprint("begun ", i)))
		if err != nil {
			t.Fatal(err)
		}
		got[i] = s
	}
	for i, s := range got {
		r, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(r); err != nil || string(raw) != fmt.Sprint("begun ", i) {
			t.Errorf("content %d is %q, %v", i, raw, err)
		}
	}
	if len(l.all) != 2 {
		t.Errorf("%d files, want 2", len(l.all))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
