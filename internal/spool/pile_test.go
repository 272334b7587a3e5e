package spool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestPileKeepsContents(t *testing.T) {
	dir := t.TempDir()
	p := &Pile{Dir: dir, What: "layers"}
	var all []*Section
	want := []string{"first", "", strings.Repeat("third ", 1<<16)}
	for _, s := range want {
		got, err := p.Add(t.Context(), strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got)
		// What breaks off leaves nothing between the others.
		broken := errors.New("broken")
		if _, err := p.Add(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("got %v, want the reader's error", err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder has %v (%v), want nothing", entries, err)
	}
	for i, s := range all {
		for range 2 {
			r, err := s.Open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != want[i] || s.Size() != int64(len(got)) {
				t.Errorf("section %d: %d bytes, %v, want %d", i, len(got), err, len(want[i]))
			}
		}
	}
	all[0].Free()
	if r, err := all[2].Open(); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(r); err != nil || string(got) != want[2] {
		t.Errorf("what lies beside the freed one: %d bytes, %v", len(got), err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := all[1].Open(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want that it is closed", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// A content that takes long, as one from a network does, keeps nobody from those
// that are there.
func TestPileIsReadWhileItIsAddedTo(t *testing.T) {
	p := &Pile{Dir: t.TempDir(), What: "layers"}
	defer p.Close()
	var all []*Section
	for range 2 {
		s, err := p.Add(t.Context(), strings.NewReader("first"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := p.Add(t.Context(), r)
		done <- err
	}()
	if _, err := io.WriteString(w, "long"); err != nil { // it is being added
		t.Fatal(err)
	}
	all[1].Free()
	in, err := all[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); err != nil || string(got) != "first" {
		t.Errorf("read %q, %v", got, err)
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPileObeysContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &Pile{Dir: t.TempDir(), What: "layers"}
	defer p.Close()
	n := 0
	endless := readerFunc(func(b []byte) (int, error) {
		if n++; n == 3 {
			cancel()
		}
		return len(b), nil
	})
	if _, err := p.Add(ctx, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
