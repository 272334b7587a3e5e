package publish_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func TestUntagTakesTagsOnly(t *testing.T) {
	p := plainPlace(t)
	dig := "@sha256:" + strings.Repeat("a", 64)
	// A50 a digest is rejected. Ours needs no login to be made: who may delete
	// without one may, and the host is checked where it is read.
	for _, refs := range [][]string{
		{"name/repo" + dig}, {"name/repo:1", "name/repo:1" + dig}, {"name/repo"}, {},
		// Two names of one repository: each half would count on the tags of the other.
		{"docker.io/alpine:1", "docker.io/library/alpine:2"}, {"docker.io/a/b:1", "index.docker.io/a/b:2"},
		{"quay.io/a/b:1", "QUAY.io/a/b:2"}, {"quay.io/a/b:1", "quay.io:443/a/b:2"},
	} {
		r, err := p.publisher().Untag(t.Context(), p.refs(refs...), publish.UntagOptions{})
		is(t, err, oci.ErrUsage)
		if r != nil {
			t.Errorf("%q: a report: %+v", refs, r)
		}
	}
	if asked := p.requests(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestUntagGroups(t *testing.T) {
	p := plainPlace(t)
	for i, ref := range []string{"name/repo1:1", "name/repo1:2", "name/repo2:2", "name2/repo1:1", "name2/repo1:3", "name2/repo1:4"} {
		p.push(ref, newCast().image(fmt.Sprint("amd64=", i)))
	}
	pub := p.publisher()
	pub.DryRun = true
	// A51 references by repository
	r, err := pub.Untag(t.Context(), p.refs("name/repo1:1", "name2/repo1:3", "name/repo1:2", "name/repo2:2", "name2/repo1:1", "name/repo1:1"), publish.UntagOptions{RemoveLast: true})
	if err != nil {
		t.Fatal(err)
	}
	p.wantStatuses(
		r, "planned name/repo1:1", "planned name/repo1:2",
		"planned name2/repo1:1", "planned name2/repo1:3", "planned name/repo2:2",
	)
	if len(r.Items) != 3 || r.Items[1].Source != p.host+"/name2/repo1" {
		t.Errorf("items: %+v", r.Items)
	}
	p.wantDeletes()
}

func TestUntag(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		list, lost := p.fill("name/repo")

		t.Run("A53 a tag whose image has another", func(t *testing.T) {
			r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{})
			if err != nil || len(r.Items[0].LostDigests) > 0 {
				t.Fatalf("got %v, lost %v", err, r.Items)
			}
			p.wantStatuses(r, "deleted name/repo:1")
			if c := r.Items[0].Changes[0]; c.Old != list.Desc.Digest || c.New != "" || r.Totals[publish.Deleted] != 1 {
				t.Errorf("got %+v, %v", c, r.Totals)
			}
			p.wantDeletes("name/repo:1")
			if there := p.tags("name/repo", "1", "2", "3", "4"); there != "2 3 4" {
				t.Errorf("there are %s", there)
			}
		})

		p.push("name/repo:1", list)
		t.Run("A54 the last tags, which is refused", func(t *testing.T) {
			r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:1", "name/repo:2"), publish.UntagOptions{})
			is(t, err, oci.ErrRefused)
			for _, d := range lost {
				if err == nil || !strings.Contains(err.Error(), p.host+"/name/repo@"+string(d)) {
					t.Errorf("%v doesn't name %s", err, d)
				}
			}
			if !slices.Equal(r.Items[0].LostDigests, lost) {
				t.Errorf("lost %v, want %v", r.Items[0].LostDigests, lost)
			}
			p.wantStatuses(r, "skipped name/repo:1", "skipped name/repo:2")
			p.wantDeletes()
		})

		t.Run("A55 the last tags, which is allowed", func(t *testing.T) {
			pub := p.publisher()
			pub.DryRun = true
			r, err := pub.Untag(t.Context(), p.refs("name/repo:2", "name/repo:1"), publish.UntagOptions{RemoveLast: true})
			if err != nil {
				t.Fatal(err)
			}
			p.wantStatuses(r, "planned name/repo:1", "planned name/repo:2")
			p.wantDeletes()
			pub.DryRun = false
			if r, err = pub.Untag(t.Context(), p.refs("name/repo:2", "name/repo:1"), publish.UntagOptions{RemoveLast: true}); err != nil {
				t.Fatal(err)
			}
			// The events' lists are sorted, as the report is.
			p.wantStatuses(r, "deleted name/repo:1", "deleted name/repo:2")
			if got := r.Items[0].LostDigests; len(got) != 6 || got[0] != list.Desc.Digest {
				t.Errorf("lost %v, want the list and its five images", got)
			}
			p.wantDeletes("name/repo:1", "name/repo:2")
			if there := p.tags("name/repo", "1", "2", "3", "4"); there != "3 4" {
				t.Errorf("there are %s", there)
			}
		})

		t.Run("a tag that isn't there", func(t *testing.T) {
			r, err := p.publisher().Untag(t.Context(), p.refs("name/repo:3", "name/repo:9"), publish.UntagOptions{})
			is(t, err, oci.ErrNotFound)
			if err == nil || !strings.Contains(err.Error(), "name/repo:9") || strings.Contains(err.Error(), "name/repo:3") {
				t.Errorf("got %v", err)
			}
			p.wantStatuses(r, "skipped name/repo:3", "absent name/repo:9")
			p.wantDeletes()
			r, err = p.publisher().Untag(t.Context(), p.refs("name/repo:3", "name/repo:9"), publish.UntagOptions{IgnoreMissing: true})
			if err != nil {
				t.Fatal(err)
			}
			p.wantStatuses(r, "deleted name/repo:3", "absent name/repo:9")
			p.wantDeletes("name/repo:3")
		})

		t.Run("a repository that isn't there", func(t *testing.T) {
			r, err := p.publisher().Untag(t.Context(), p.refs("name/none:1"), publish.UntagOptions{})
			if p.quay != nil && p.env.APIToken == "" { // it may be there, and not ours to see
				is(t, err, oci.ErrDenied, oci.ErrIncomplete, oci.ErrRefused)
				return
			}
			is(t, err, oci.ErrNotFound)
			p.wantStatuses(r, "absent name/none:1")
			if _, err := p.publisher().Untag(t.Context(), p.refs("name/none:1"), publish.UntagOptions{IgnoreMissing: true}); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestUntagScansOnce(t *testing.T) {
	p := plainPlace(t)
	p.fill("name/repo")
	pub := p.publisher()
	pub.DryRun = true
	r, err := pub.Untag(t.Context(), p.refs("name/repo:1", "name/repo:4"), publish.UntagOptions{})
	if err != nil || len(r.Items[0].LostDigests) > 0 {
		t.Fatalf("got %v, %+v", err, r)
	}
	// A52 what the tags mean: one list of tags, a HEAD for each, a GET for each of
	// the two lists of platforms. The reference makes 13 requests.
	got := map[string]int{}
	for _, req := range p.answered() {
		method, path, _ := strings.Cut(req, " ")
		switch {
		case strings.HasSuffix(path, "/tags/list"):
			got["tags"]++
		case strings.Contains(path, "/manifests/"):
			got[method]++
		default:
			t.Errorf("asked %s", req)
		}
	}
	if got["tags"] != 1 || got["HEAD"] != 4 || got["GET"] != 2 {
		t.Errorf("asked %v", got)
	}
}

// about is an image with tag-based companions: a signature of something.
func about(d oci.Digest, suffix string) (tag string, img imagetest.Image) {
	return "sha256-" + d.Encoded() + suffix, imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"about": string(d) + suffix}))
}

// referring gives img with subject.
func referring(img imagetest.Image, subject oci.Descriptor) imagetest.Image {
	var doc map[string]any
	if err := json.Unmarshal(img.Raw, &doc); err != nil {
		panic(err)
	}
	doc["subject"] = map[string]any{"mediaType": subject.MediaType, "digest": subject.Digest, "size": subject.Size}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	img.Raw, img.Desc.Digest, img.Desc.Size = raw, digest.FromBytes(raw), int64(len(raw))
	return img
}

func TestUntagCompanions(t *testing.T) {
	inPlaces(t, func(t *testing.T, p *place) {
		list, lost := p.fill("name/repo")
		subject := list.Children[2].Desc
		att, attImg := about(subject.Digest, ".att")
		sig, sigImg := about(subject.Digest, ".sig")
		second, secondImg := about(attImg.Desc.Digest, ".sig")
		other, otherImg := about(digest.FromString("somebody else's"), ".sig")
		for tag, img := range map[string]imagetest.Image{att: attImg, sig: sigImg, second: secondImg, other: otherImg} {
			p.push("name/repo:"+tag, img)
		}
		referrer := referring(newCast().image("amd64=sbom"), subject)
		p.push("name/repo:", referrer)

		pub := p.publisher()
		pub.DryRun = true
		r, err := pub.Untag(t.Context(), p.refs("name/repo:1"), publish.UntagOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.wantStatuses(r, "planned name/repo:1") // what another tag reaches keeps its companions
		pub.DryRun = false
		p.answered()
		r, err = pub.Untag(t.Context(), p.refs("name/repo:1", "name/repo:2"), publish.UntagOptions{RemoveLast: true})
		if err != nil {
			t.Fatal(err)
		}
		// A56 the companions go after the tags, by name. cosign isn't needed for it.
		along := []string{att, sig, second}
		slices.Sort(along)
		p.wantStatuses(
			r, "deleted name/repo:1", "deleted name/repo:2",
			"deleted name/repo:"+along[0], "deleted name/repo:"+along[1], "deleted name/repo:"+along[2],
		)
		kinds := map[string]string{att: "attestation", sig: "signature", second: "signature"}
		for _, c := range r.Items[0].Changes[2:] {
			if _, tag, _ := strings.Cut(strings.TrimPrefix(c.Reference, p.host), ":"); c.Companion != kinds[tag] {
				t.Errorf("%s is a %q, want %q", tag, c.Companion, kinds[tag])
			}
		}
		if want := append(lost, referrer.Desc.Digest); !slices.Equal(r.Items[0].LostDigests, want) {
			t.Errorf("lost %v, want %v", r.Items[0].LostDigests, want)
		}
		deleted := p.deletes()
		for i := range deleted {
			deleted[i] = strings.TrimPrefix(deleted[i], "name/repo:")
		}
		want := append([]string{"1", "2"}, along...)
		if p.quay != nil {
			// Quay takes the signature of an attestation with its last tag.
			want = slices.DeleteFunc(want, func(tag string) bool { return tag == second && !slices.Contains(deleted, tag) })
		}
		if !slices.Equal(deleted, want) {
			t.Errorf("deleted %q, want %q", deleted, want)
		}
		if there := p.tags("name/repo", append(along, "1", "2", other)...); there != other {
			t.Errorf("there are %s", there)
		}
	})
}

func TestUntagSeveralRepositories(t *testing.T) {
	p := plainPlace(t)
	p.fill("name/repo1")
	p.fill("name/repo2")
	// A59 a loss in the second repository keeps the first as it is
	_, err := p.publisher().Untag(t.Context(), p.refs("name/repo1:1", "name/repo2:1", "name/repo2:2"), publish.UntagOptions{})
	is(t, err, oci.ErrRefused)
	p.wantDeletes()
}

func TestUntagGoesToTheHostOfTheReference(t *testing.T) {
	// A60 the host of the reference, and never the Quay of the options
	named, usual := quayPlace(t, quaytest.Options{}, false), quayPlace(t, quaytest.Options{}, true)
	for _, p := range []*place{named, usual} {
		p.fill("name/repo")
	}
	pub := named.publisher()
	pub.Dest.QuayHost, pub.Dest.APIToken = usual.env.QuayHost, usual.env.APIToken
	if _, err := pub.Untag(t.Context(), named.refs("name/repo:1"), publish.UntagOptions{}); err != nil {
		t.Fatal(err)
	}
	named.wantDeletes("name/repo:1")
	if asked := usual.requests(); len(asked) > 0 {
		t.Errorf("the other Quay was asked %q", asked)
	}
}
