package companion_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// tagOf gives cosign's tag of d that ends in suffix.
func tagOf(d oci.Digest, suffix string) string {
	return "sha256-" + strings.TrimPrefix(string(d), "sha256:") + suffix
}

// told gives what found is about, in short.
func told(found []companion.Companion) []string {
	var out []string
	for _, c := range found {
		name := c.Tag
		if name == "" {
			name = string(c.Desc.Digest)
		}
		out = append(out, fmt.Sprintf("%s %s", c.Kind, name))
	}
	return out
}

// A signed image with an SBOM and two referrers; its attestation is signed, and so
// is one referrer, whose signature has a referrer.
func TestFindGoesToTheEnd(t *testing.T) {
	s := newShelf()
	img := s.add(t, "image", "v1", "")
	sig := s.add(t, "signature", tagOf(img, ".sig"), "")
	att := s.add(t, "attestation", tagOf(img, ".att"), "")
	sbom := s.add(t, "sbom", tagOf(img, ".sbom"), "")
	s.add(t, "signature of the attestation", tagOf(att, ".sig"), "")
	r1 := s.add(t, "referrer", "", img)
	s.add(t, "signature of the referrer", tagOf(r1, ".sig"), "")
	r2 := s.add(t, "referrer of the SBOM", "", sbom)
	other := s.add(t, "another image", "v2", "")
	s.add(t, "signature of another", tagOf(other, ".sig"), "")
	want := []string{
		"signature " + tagOf(img, ".sig"), "attestation " + tagOf(img, ".att"), "sbom " + tagOf(img, ".sbom"),
		"referrer " + string(r1), "signature " + tagOf(att, ".sig"), "referrer " + string(r2), "signature " + tagOf(r1, ".sig"),
	}
	listing := []string{"v1", "v2", tagOf(other, ".sig"), tagOf(img, ".sig"), tagOf(img, ".att"), tagOf(img, ".sbom"), tagOf(att, ".sig"), tagOf(r1, ".sig")}
	for _, listed := range [][]string{nil, listing} {
		s.asked = nil
		got, err := companion.Find(t.Context(), s, []oci.Digest{img}, listed)
		if err != nil || !slices.Equal(told(got), want) {
			t.Errorf("got %q, %v\nwant %q", told(got), err, want)
		}
		if got[0].Subject != img || got[0].Desc.Digest != sig || got[0].Desc.Size == 0 {
			t.Errorf("the signature is %+v, want %s about %s", got[0], sig, img)
		}
		// Each of the 8 manifests once, and of the tags those that there may be.
		if n := s.count("GET referrers"); n != 8 {
			t.Errorf("referrers were asked for %d times, want 8: %q", n, s.asked)
		}
		slices.Sort(s.asked)
		if all := len(s.asked); all != len(slices.Compact(s.asked)) {
			t.Errorf("something was asked twice: %q", s.asked)
		}
		if n := s.count("HEAD"); listed != nil && n != 5 || n > 30 {
			t.Errorf("%d HEADs, want the 5 tags that there are, or 30 at most where that isn't known", n)
		}
		if n := s.count("GET tags"); n != 0 {
			t.Errorf("tags were listed %d times, want never", n)
		}
	}
}

// What is looked up of A56 and A57; deleting is package publish's.
func TestFindKinds(t *testing.T) {
	s := newShelf()
	img := s.add(t, "image", "1", "")
	att := s.add(t, "attestation", tagOf(img, ".att"), "")
	s.add(t, "signature", tagOf(img, ".sig"), "")
	s.add(t, "signature of the attestation", tagOf(att, ".sig"), "")
	t.Run("A56 companions of companions", func(t *testing.T) {
		// Ours looks for more than signatures in the second pass, and goes on until
		// nothing new comes.
		got, err := companion.Find(t.Context(), s, []oci.Digest{img}, nil)
		want := []string{"signature " + tagOf(img, ".sig"), "attestation " + tagOf(img, ".att"), "signature " + tagOf(att, ".sig")}
		if err != nil || !slices.Equal(told(got), want) {
			t.Errorf("got %q, %v, want %q", told(got), err, want)
		}
	})
	t.Run("A57 only what is there", func(t *testing.T) {
		// Ours takes digests of one place by its types, so that tags, several
		// repositories and unknown kinds can't be asked for. Who wants one kind picks it.
		got, err := companion.Find(t.Context(), s, []oci.Digest{img}, []string{"1", tagOf(img, ".att"), tagOf(img, ".sig")})
		got = slices.DeleteFunc(got, func(c companion.Companion) bool { return c.Kind != companion.Attestation })
		if err != nil || !slices.Equal(told(got), []string{"attestation " + tagOf(img, ".att")}) {
			t.Errorf("got %q, %v, want the attestation", told(got), err)
		}
	})
	t.Run("A57 nothing asked for", func(t *testing.T) {
		s.asked = nil
		got, err := companion.Find(t.Context(), s, nil, nil)
		if len(got) != 0 || err != nil || len(s.asked) != 0 {
			t.Errorf("got %q, %v, after %q; want nothing, and no question", told(got), err, s.asked)
		}
	})
}

func TestFindSubjectsAmongEachOther(t *testing.T) {
	s := newShelf()
	img := s.add(t, "image", "v1", "")
	ref := s.add(t, "referrer", "", img)
	// Its manifest is about img by its subject as well as by its tag.
	sig := s.add(t, "signature", tagOf(img, ".sig"), img)
	got, err := companion.Find(t.Context(), s, []oci.Digest{img, ref, img}, nil)
	if want := []string{"signature " + tagOf(img, ".sig")}; err != nil || !slices.Equal(told(got), want) {
		t.Errorf("got %q, %v, want %q: neither the subject again, nor the signature %s twice", told(got), err, want, sig)
	}
	if n := s.count("GET referrers"); n != 3 {
		t.Errorf("referrers were asked for %d times, want 3", n)
	}
}

// 12 images may have 36 tags: more than are tried.
func TestFindListsOnceForMany(t *testing.T) {
	s := newShelf()
	var images []oci.Digest
	for i := range 12 {
		images = append(images, s.add(t, fmt.Sprint("image ", i), fmt.Sprint(i), ""))
	}
	s.add(t, "signature", tagOf(images[7], ".sig"), "")
	got, err := companion.Find(t.Context(), s, images, nil)
	if err != nil || len(got) != 1 || s.count("GET tags") != 1 || s.count("HEAD") != 1 {
		t.Errorf("got %q, %v, after %q; want one companion, found by one listing and one HEAD", told(got), err, s.asked)
	}

	t.Run("one after another", func(t *testing.T) {
		s.asked = nil
		f := companion.Finder{Place: s}
		found := 0
		for _, img := range images {
			got, err := f.Find(t.Context(), []oci.Digest{img})
			if err != nil {
				t.Fatal(err)
			}
			found += len(got)
		}
		// 8 images are tried, 3 tags each; then the signature costs one.
		if found != 1 || s.count("GET tags") != 1 || s.count("HEAD") > 30 {
			t.Errorf("found %d after %d listings and %d HEADs, want 1, 1 and at most 30", found, s.count("GET tags"), s.count("HEAD"))
		}
	})
	t.Run("a place that lists no tags", func(t *testing.T) {
		s := &shelf{registry: s.registry, unlisted: true}
		got, err := companion.Find(t.Context(), s, images, nil)
		if err != nil || len(got) != 1 || s.count("GET tags") != 1 || s.count("HEAD") != 3*13 {
			t.Errorf("got %q, %v, after %d HEADs; want one companion, found by asking for each tag", told(got), err, s.count("HEAD"))
		}
	})
}

func TestFindWithoutReferrers(t *testing.T) {
	s := newShelf()
	s.lonely = true
	img := s.add(t, "image", "v1", "")
	s.add(t, "signature", tagOf(img, ".sig"), "")
	s.add(t, "referrer", "", img)
	got, err := companion.Find(t.Context(), s, []oci.Digest{img}, nil)
	if err != nil || len(got) != 1 || s.count("GET referrers") != 1 {
		t.Errorf("got %q, %v, after %q; want the signature, and referrers asked for once", told(got), err, s.asked)
	}
}

func TestFindEnds(t *testing.T) {
	s := newShelf()
	img := s.add(t, "image", "v1", "")
	t.Run("another companion each time", func(t *testing.T) {
		s.endless = func(d oci.Digest) oci.Digest { return digest.FromString(string(d)) }
		got, err := companion.Find(t.Context(), s, []oci.Digest{img}, []string{})
		if !errors.Is(err, oci.ErrTooLarge) || len(got) != 8 {
			t.Errorf("got %d companions and %v, want 8 and an error that matches ErrTooLarge", len(got), err)
		}
	})
	t.Run("in a circle", func(t *testing.T) {
		other := digest.FromString("other")
		s.endless = func(d oci.Digest) oci.Digest {
			if d == img {
				return other
			}
			return img
		}
		got, err := companion.Find(t.Context(), s, []oci.Digest{img}, []string{})
		if err != nil || !slices.Equal(told(got), []string{"referrer " + string(other)}) {
			t.Errorf("got %q, %v, want the other one", told(got), err)
		}
	})
	t.Run("a digest that is none", func(t *testing.T) {
		s.endless = func(oci.Digest) oci.Digest { return "sha256:../../x" }
		if got, err := companion.Find(t.Context(), s, []oci.Digest{img}, []string{}); !errors.Is(err, oci.ErrInvalid) || len(got) != 0 {
			t.Errorf("got %q, %v, want an error that matches ErrInvalid", told(got), err)
		}
	})
}

func TestFindTooMany(t *testing.T) {
	s := newShelf()
	img := s.add(t, "image", "v1", "")
	crowd := &crowd{s, 20_000}
	got, err := companion.Find(t.Context(), crowd, []oci.Digest{img}, []string{})
	if !errors.Is(err, oci.ErrTooLarge) || len(got) > 10_100 || s.count("") != 1 {
		t.Errorf("got %d companions and %v after %d questions, want a limit that holds", len(got), err, s.count(""))
	}
}

// Any answer but "there is none" means that there may be more.
func TestFindErrors(t *testing.T) {
	boom := errors.New("503")
	for _, at := range []string{"HEAD", "GET tags", "GET referrers"} {
		s := newShelf()
		var images []oci.Digest
		for i := range 11 {
			images = append(images, s.add(t, fmt.Sprint("image ", i), fmt.Sprint(i), ""))
		}
		s.add(t, "signature", tagOf(images[0], ".sig"), "")
		s.fault = func(asked string) error {
			if strings.HasPrefix(asked, at) {
				return boom
			}
			return nil
		}
		if _, err := companion.Find(t.Context(), s, images, nil); !errors.Is(err, boom) {
			t.Errorf("%s: got %v, want its error", at, err)
		}
		// A listing that failed isn't taken for an empty one.
		f := companion.Finder{Place: s}
		_, _ = f.Find(t.Context(), images)
		s.fault = nil
		if got, err := f.Find(t.Context(), images); err != nil || len(got) != 1 {
			t.Errorf("%s: the next search found %q, %v, want the signature", at, told(got), err)
		}
	}
}
