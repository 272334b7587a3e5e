package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A ledger knows which repositories of a Quay the run had to create.
//
// It needs no request for that. To a read of a repository that isn't there Quay
// answers 404 NAME_UNKNOWN, if the caller's role in the namespace would let them
// read it, and else 401; and it grants push on it to who may create it. So a
// repository that answered so before the first write, and then took an image,
// was created by this run. Where nobody read before the first write, one GET
// is made. Other registries say too many different things to tell.
type ledger struct {
	mu      sync.Mutex
	repos   map[string]*entry // by path on the wire
	created []oci.CreatedRepository

	// asking is held while visibility is asked for. A Quay gives what a push
	// creates one visibility, so the first repository of a namespace tells it of
	// all; visible has it by namespace.
	asking  sync.Mutex
	visible map[string]string
}

// An entry is what is known of one repository.
type entry struct {
	known   bool // it was read before the first write
	there   bool // and it answered
	written bool // the first write has begun
	settled bool // an image was committed
}

// entry gives the entry of r. l.mu is held.
func (l *ledger) entry(r *repo) *entry {
	if l.repos == nil {
		l.repos = map[string]*entry{}
	}
	e := l.repos[r.path]
	if e == nil {
		e = &entry{}
		l.repos[r.path] = e
	}
	return e
}

// read notes the outcome of a read. What comes after the first write says nothing.
func (l *ledger) read(r *repo, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entry(r); !e.known && !e.written {
		e.known, e.there = true, there
	}
}

// known reports whether the state before the first write is known, or can't be any more.
func (l *ledger) known(r *repo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(r)
	return e.known || e.written
}

func (l *ledger) write(r *repo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entry(r).written = true
}

// commit reports whether the image that was committed is the first of a
// repository that was not there.
func (l *ledger) commit(r *repo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(r)
	first := !e.settled
	e.settled = true
	return first && e.known && !e.there
}

func (l *ledger) add(c oci.CreatedRepository) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.created = append(l.created, c)
}

// Created implements [oci.Creator], for Quay: quay.io, the host that the caller
// names as its Quay, or any host that there is an API token for.
func (t *target) Created() []oci.CreatedRepository {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	return slices.SortedFunc(slices.Values(t.ledger.created), func(a, b oci.CreatedRepository) int {
		return strings.Compare(a.Repository, b.Repository)
	})
}

func (t *target) isQuay() bool {
	return t.host == quay.DefaultHost || t.host == t.env.QuayHost || t.env.APIToken != ""
}

// beforeWrite is called before anything that asks for push.
func (d *destination) beforeWrite(ctx context.Context) error {
	l := &d.target.ledger
	if d.target.isQuay() && !l.known(d.repo) {
		if _, err := d.Head(ctx, ""); ctx.Err() != nil {
			return err
		} // any other outcome is noted, or the write meets it too
	}
	l.write(d.repo)
	return nil
}

// afterCommit enters a repository that was created, and sets its visibility if
// that was asked for. If it can't be set that is an error: what was meant to be
// seen isn't, or the other way round.
func (d *destination) afterCommit(ctx context.Context) error {
	t := d.target
	if !t.isQuay() || !t.ledger.commit(d.repo) {
		return nil
	}
	c := &quay.Client{Host: t.host, Token: t.env.APIToken, HTTP: t.env.HTTP, PlainHTTP: t.env.PlainHTTP}
	made := oci.CreatedRepository{Repository: d.ref.Name()}
	var err error
	if want := t.env.Visibility; want != "" {
		if err = c.ChangeVisibility(ctx, d.path, quay.Visibility(want)); err == nil {
			made.Visibility = want
		} else {
			err = fmt.Errorf("the image is there, but the repository was created and is not %s: %w", want, err)
		}
	} else {
		made.Visibility = d.visibility(ctx, c)
	}
	t.ledger.add(made)
	return oci.Wrap(err, "set visibility", d.ref.Name(), oci.Descriptor{})
}

// visibility says whether the repository, which the run has created, is public.
// "" is not known.
func (d *destination) visibility(ctx context.Context, c *quay.Client) string {
	namespace, _, _ := strings.Cut(d.path, "/")
	l := &d.target.ledger
	l.asking.Lock()
	defer l.asking.Unlock()
	if v := l.visible[namespace]; v != "" {
		return v
	}
	r, err := c.Repository(ctx, d.path)
	v := "private"
	switch {
	case err == nil && r.Public:
		v = "public"
	case err != nil && !errors.Is(err, oci.ErrDenied):
		d.log.Debug("visibility is not known", "ref", d.ref.Name(), "error", err)
		return ""
	}
	if l.visible == nil {
		l.visible = map[string]string{}
	}
	l.visible[namespace] = v
	return v
}
