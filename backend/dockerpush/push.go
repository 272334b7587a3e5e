package dockerpush

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// repositories of pushes are below this one, so that a tag which a killed run
	// left behind says what it is.
	repositories = "quaymaster-push/"
	user         = "quaymaster"
	// untagTime bounds the removal of the tag, which is tried after an interrupt too.
	untagTime = 10 * time.Second
)

// manifestTime bounds the wait for a manifest when the daemon says that it is
// done; it says so after the last answer of the registry. A variable for tests.
var manifestTime = 5 * time.Second

// push has the daemon push the image. The tag that this takes, and the registry,
// are gone when it returns.
func (s *source) push(ctx context.Context) (_ *store, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	got := newStore(cancel)
	defer func() {
		if err != nil {
			err = errors.Join(err, got.close())
		}
	}()
	r, err := listen(ctx, got)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	repository, tag := r.address()+"/"+r.repository, cmp.Or(s.ref.Tag, "latest")
	s.sweep(ctx)
	// Tagging isn't given up halfway: we wouldn't know whether there is a tag.
	if err := s.tag(context.WithoutCancel(ctx), repository, tag); err != nil {
		return nil, err
	}
	defer func() {
		r.stop() // so that a daemon that goes on pushing sees that it is over
		s.untag(ctx, repository+":"+tag)
	}()
	if err := s.ask(ctx, r, repository, tag); err != nil {
		return nil, err
	}
	wait, stop := context.WithTimeout(ctx, manifestTime)
	defer stop()
	select {
	case <-got.complete:
		return got, nil
	case <-wait.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%w: the daemon said that it is done, but there is no manifest", oci.ErrInvalid)
}

// tag names the image for the registry.
func (s *source) tag(ctx context.Context, repository, tag string) error {
	ctx, cancel := context.WithTimeout(ctx, untagTime)
	defer cancel()
	err := s.client.Send(ctx, engine.Call{
		Method: http.MethodPost, Path: "/images/" + engine.EscapeRef(s.name) + "/tag",
		Query: url.Values{"repo": {repository}, "tag": {tag}},
	})
	if errors.Is(err, oci.ErrNotFound) {
		err = fmt.Errorf("%w: the daemon at %s has no such image", oci.ErrNotFound, s.client)
		if s.ref.Registry != "" {
			err = fmt.Errorf("%w; for a registry write registry://%s", err, s.name)
		}
	}
	return err
}

// untag removes the tag again, also if ctx has ended.
func (s *source) untag(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), untagTime)
	defer cancel()
	err := s.remove(ctx, name)
	if err != nil && !errors.Is(err, oci.ErrNotFound) {
		s.env.Warnf("the tag %s may be left in the daemon at %s: %v", name, s.client, err)
	}
}

// remove takes the name off an image.
func (s *source) remove(ctx context.Context, name string) error {
	return s.client.Send(ctx, engine.Call{
		Method: http.MethodDelete, Path: "/images/" + engine.EscapeRef(name),
		Query: url.Values{"noprune": {"true"}},
	})
}

// ask has the daemon push repository:tag, and waits until it is done.
func (s *source) ask(ctx context.Context, r *server, repository, tag string) error {
	login, err := json.Marshal(map[string]string{"username": user, "password": r.password, "serveraddress": r.address()})
	if err != nil {
		return err
	}
	err = s.client.Progress(ctx, engine.Call{
		Method: http.MethodPost, Path: "/images/" + engine.EscapeRef(repository) + "/push",
		// Docker doesn't know tlsVerify and needs no such word.
		Query:  url.Values{"tag": {tag}, "tlsVerify": {"false"}},
		Header: http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(login)}},
	}, nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !r.reached():
		return fmt.Errorf("%w (it never got as far as %s: does it run in a network of its own? docker://%s needs no connection back)", err, r.address(), s.name)
	}
	return err
}

// secret gives 128 random bits.
func secret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return fmt.Sprintf("%x", b)
}
