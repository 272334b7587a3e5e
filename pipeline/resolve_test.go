package pipeline_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A tag that is other than it was listed: Quay serves a digest only while a
// living tag leads to it.
func TestTagChangedSinceItWasListed(t *testing.T) {
	before, after := layered(imagetest.Linux, 1), layered(imagetest.Linux, 2)
	const repo = "org/app"
	tests := []struct {
		name   string
		change func(*quaytest.Server) error
		follow bool
		want   oci.Digest // "" is an error:
		kind   error
		text   string
	}{
		{"unchanged", func(*quaytest.Server) error { return nil }, false, before.Desc.Digest, nil, ""},
		{"moved", func(s *quaytest.Server) error { return s.MoveTag(repo, "v1", after.Desc.Digest) }, false,
			"", oci.ErrMoved, "tag moved since it was listed: " + string(before.Desc.Digest) + " -> " + string(after.Desc.Digest)},
		{"moved and followed", func(s *quaytest.Server) error { return s.MoveTag(repo, "v1", after.Desc.Digest) }, true, after.Desc.Digest, nil, ""},
		{"moved, another tag has the old digest", func(s *quaytest.Server) error {
			return errors.Join(s.Push(t.Context(), repo, "other", before), s.MoveTag(repo, "v1", after.Desc.Digest))
		}, false, before.Desc.Digest, nil, ""},
		{"gone", func(s *quaytest.Server) error { return s.DeleteTag(repo, "v1") }, false, "", oci.ErrGone, "tag gone since it was listed"},
		{"gone and followed", func(s *quaytest.Server) error { return s.DeleteTag(repo, "v1") }, true, "", oci.ErrGone, "tag gone since it was listed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := quaytest.New(quaytest.Options{})
			run := s.Start()
			defer run.Close()
			item := pushQuay(t, s, run, before)
			if err := s.Push(t.Context(), repo, "v2", after); err != nil {
				t.Fatal(err)
			}
			if err := tt.change(s); err != nil {
				t.Fatal(err)
			}
			img := fromQuay(t, run, item)
			r, err := pipeline.Copy(t.Context(), img, pipeline.Options{FollowMoved: tt.follow})
			if tt.kind != nil {
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) || !strings.HasSuffix(r.Error, tt.text) {
					t.Fatalf("got %v and %+v, want %q", err, r, tt.text)
				}
				if _, err := img.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("something was written: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d, err := img.Dest.Head(t.Context(), ""); err != nil || d.Digest != tt.want || r.Digest != tt.want {
				t.Errorf("wrote %s, %v, reported %s, want %s", d.Digest, err, r.Digest, tt.want)
			}
			if _, err := pipeline.Inspect(t.Context(), img.Source, item, nil); errors.Is(err, oci.ErrMoved) != tt.follow {
				t.Errorf("inspect: got %v, want moved %v", err, tt.follow)
			}
		})
	}
}

// A tag that moves while its index is copied: the children are gone.
func TestTagMovesWhileItIsCopied(t *testing.T) {
	before, after := attested(t, imagetest.Linux, arm64), imagetest.Index(layered(arm64, 77))
	for _, follow := range []bool{false, true} {
		s := quaytest.New(quaytest.Options{})
		run := s.Start()
		defer run.Close()
		item := pushQuay(t, s, run, before)
		img := fromQuay(t, run, item)
		img.Source = afterResolve{img.Source, func() {
			if err := s.Push(t.Context(), "org/app", "v1", after); err != nil {
				t.Error(err)
			}
		}}
		r, err := pipeline.Copy(t.Context(), img, pipeline.Options{FollowMoved: follow, Verify: pipeline.VerifyFull})
		if !follow {
			if !errors.Is(err, oci.ErrMoved) || !strings.Contains(err.Error(), string(after.Desc.Digest)) {
				t.Errorf("got %v, want moved", err)
			}
			continue
		}
		if err != nil || r.Digest != after.Desc.Digest {
			t.Errorf("got %s, %v, want the new index whole", r.Digest, err)
		}
	}
}

// afterResolve is a source that something happens to once an index was read.
type afterResolve struct {
	oci.Source
	do func()
}

func (a afterResolve) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	d, raw, err := a.Source.Resolve(ctx, ref)
	if oci.IsIndexType(d.MediaType) {
		a.do()
	}
	return d, raw, err
}

func pushQuay(t *testing.T, s *quaytest.Server, run *quaytest.Run, img imagetest.Image) oci.Item {
	t.Helper()
	if err := s.Push(t.Context(), "org/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	return oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: "org/app", Tag: "v1"}, Desc: oci.Descriptor{Digest: img.Desc.Digest}}
}

// fromQuay makes the way of item from run to a layout.
func fromQuay(t *testing.T, run *quaytest.Run, item oci.Item) pipeline.Image {
	t.Helper()
	env := backend.Env{HTTP: &http.Client{}, PlainHTTP: true}
	src, err := registry.Open(item.Ref, env)
	if err != nil {
		t.Fatal(err)
	}
	target := openTarget(t, "ocidir://"+t.TempDir()+"/x", env)
	dest, err := target.Image(t.Context(), item.Ref)
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Image{Item: item, Source: src, Dest: dest, Traits: target.Traits(), To: item.Ref}
}
