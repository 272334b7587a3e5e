package discover_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestQuaySelects(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	sig := "sha256-" + image(1).Desc.Digest.Encoded()
	fill(t, s, "o/nova-api", tag("latest", 1, day(1)), tag("2025.1-debian", 1, day(2)), tag("2025.1-ubuntu", 2, day(10)), tag("2024.2-debian", 3, day(3)))
	fill(t, s, "o/nova-compute", tag("latest", 4, day(20)), tag("2025.1-debian", 4, day(20)))
	fill(t, s, "o/team/nova-x", tag("latest", 5, day(5)))
	fill(t, s, "o/glance", tag("v1.2.0", 6, day(1)), tag("1.10.0", 7, day(2)), tag("v2.0.0", 8, day(3)), tag("1.3.0-rc.1", 9, day(4)), tag("main", 9, day(5)), tag("1.4", 9, day(2)))
	fill(t, s, "o/signed", tag("v1", 1, day(1)), tag(sig+".sig", 10, day(2)), tag(sig+".att", 11, day(2)), tag("sha256-"+hex64+".sig", 12, day(2)))
	fill(t, s, "o/empty")
	host := start(t, s).Host
	tests := []struct{ uri, want string }{
		{"quay://o", "[nova-api:latest nova-compute:latest team/nova-x:latest]"},
		{"quay://o/", "[nova-api:latest nova-compute:latest team/nova-x:latest]"},
		{"quay://o/:", "[nova-api:latest nova-compute:latest team/nova-x:latest]"},
		{"quay://o/*:latest", "[nova-api:latest nova-compute:latest team/nova-x:latest]"},
		{"quay://o/nova-*", "[nova-api:latest nova-compute:latest]"},
		{"quay://o/*nova-?", "[team/nova-x:latest]"},
		{"quay://o/nova-[!a]*", "[nova-compute:latest]"},
		{"quay://o/NOVA-*", "[]"},
		{"quay://o/team/nova-x", "[team/nova-x:latest]"},
		{"quay://o/nova-*:2025.1-*", "[nova-api:2025.1-debian nova-api:2025.1-ubuntu nova-compute:2025.1-debian]"},
		{"quay://o/nova-*:202?.[12]-debian", "[nova-api:2024.2-debian nova-api:2025.1-debian nova-compute:2025.1-debian]"},
		{"quay://o/*:none", "[]"},
		{"quay://nosuch/*:*", "[]"},
		// times
		{"quay://o/nova-*:*?since=2026-01-10", "[nova-api:2025.1-ubuntu nova-compute:2025.1-debian nova-compute:latest]"},
		{"quay://o/nova-*:*?since=2026-01-10T12:00:00Z", "[nova-api:2025.1-ubuntu nova-compute:2025.1-debian nova-compute:latest]"},
		{"quay://o/nova-*:*?since=2026-01-10T14:00:00%2B02:00", "[nova-api:2025.1-ubuntu nova-compute:2025.1-debian nova-compute:latest]"},
		{"quay://o/nova-*:*?since=2026-01-10T12:00:01Z", "[nova-compute:2025.1-debian nova-compute:latest]"},
		{"quay://o/nova-*:*?until=2026-01-02", "[nova-api:2025.1-debian nova-api:latest]"},
		{"quay://o/nova-*:*?until=2026-01-02T12:00:00Z", "[nova-api:2025.1-debian nova-api:latest]"},
		{"quay://o/nova-*:*?until=2026-01-02T11:59:59Z", "[nova-api:latest]"},
		{"quay://o/nova-*:*?since=2026-01-03&until=2026-01-10", "[nova-api:2024.2-debian nova-api:2025.1-ubuntu]"},
		{"quay://o?since=2026-01-02", "[nova-compute:latest team/nova-x:latest]"}, // nova-api changed later, its latest didn't
		// exclusions
		{"quay://o?exclude=nova-*", "[team/nova-x:latest]"},
		{"quay://o?exclude=*nova-x&exclude=nova-api", "[nova-compute:latest]"},
		{"quay://o/nova-*:*debian?exclude=*:2024*", "[nova-api:2025.1-debian nova-compute:2025.1-debian]"},
		{"quay://o/nova-*:*debian?exclude=nova-api:*", "[nova-compute:2025.1-debian]"},
		{"quay://o?exclude=nova-api:latest", "[nova-compute:latest team/nova-x:latest]"},
		// versions
		{"quay://o/glance?semver=>=1.2 <2", "[glance:1.10.0 glance:1.4 glance:v1.2.0]"},
		{"quay://o/glance?semver=%3E=1.2%20%3C2", "[glance:1.10.0 glance:1.4 glance:v1.2.0]"},
		{"quay://o/glance?semver=~1.3.0-0", "[glance:1.3.0-rc.1]"},
		{"quay://o/glance:v*?semver=*", "[glance:v1.2.0 glance:v2.0.0]"},
		{"quay://o/glance:v1.2.0?semver=>=2", "[]"},
		// newest
		{"quay://o/glance?latest=2", "[glance:1.3.0-rc.1 glance:main]"},
		{"quay://o/glance?latest=1&semver=<2", "[glance:1.10.0]"}, // of the same second as 1.4, by name
		{"quay://o/glance?latest=2&semver=<2", "[glance:1.10.0 glance:1.4]"},
		{"quay://o/glance?latest=1&until=2026-01-03", "[glance:v2.0.0]"},
		{"quay://o/nova-*?latest=1", "[nova-api:2025.1-ubuntu nova-compute:2025.1-debian]"},
		{"quay://o/nova-*:*debian?latest=1", "[nova-api:2024.2-debian nova-compute:2025.1-debian]"},
		{"quay://o/nova-api:latest?latest=1", "[nova-api:latest]"},
		// companions
		{"quay://o/signed:*", "[signed:v1]"},
		{"quay://o/signed:sha256-*", "[]"},
		{"quay://o/signed?latest=9", "[signed:v1]"},
		{"quay://o/signed:*?companions=true", fmt.Sprintf("[signed:%s.att signed:%s.sig signed:sha256-%s.sig signed:v1]", sig, sig, hex64)},
		{"quay://o/signed:" + sig + ".sig", "[signed:" + sig + ".sig]"},
	}
	for _, tt := range tests {
		t.Run(tt.uri, func(t *testing.T) {
			got, err := names(t.Context(), mustOpen(t, tt.uri, env(host)))
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("got  %v, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestQuayCompanionsAreCounted(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	of := func(seed uint64) string { return "sha256-" + image(seed).Desc.Digest.Encoded() }
	fill(t, s, "o/a", tag("v1", 1, day(1)), tag("v2", 2, day(2)), tag("w1", 3, day(2)),
		tag(of(1)+".sig", 10, day(3)), tag(of(1)+".att", 11, day(3)), tag(of(2)+".sbom", 12, day(3)), tag(of(3)+".sig", 13, day(3)), tag("sha256-"+hex64+".sig", 14, day(3)))
	host := start(t, s).Host
	for uri, want := range map[string]int{
		"quay://o/a:v*":                3,
		"quay://o/a:*":                 4,
		"quay://o/a:v1*":               2,
		"quay://o/a:*?companions=true": 0,
		"quay://o/a:*?companions=true&exclude=*:*.att": 1,
		"quay://o/a:v1": 0, // the listing shows none
	} {
		images := mustOpen(t, uri, env(host))
		if _, err := names(t.Context(), images); err != nil || listing(images).Companions != want {
			t.Errorf("%s: got %d, %v, want %d", uri, listing(images).Companions, err, want)
		}
	}
}

func TestQuayLabels(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	labelled := func(p oci.Platform, labels map[string]string) imagetest.Image {
		return imagetest.New(p, labels, imagetest.Random(1, 16))
	}
	arm := oci.Platform{OS: "linux", Architecture: "arm64"}
	both := map[string]string{"team": "net", "tier": "1"}
	push := func(repo, tag string, img imagetest.Image) {
		fill(t, s, repo, quaytest.BulkTag{Name: tag, Image: img, Start: day(1)})
	}
	push("o/both", "v1", labelled(imagetest.Linux, both))
	push("o/one", "v1", labelled(imagetest.Linux, map[string]string{"team": "net"}))
	push("o/other", "v1", labelled(imagetest.Linux, map[string]string{"team": "disk", "empty": ""}))
	push("o/none", "v1", labelled(imagetest.Linux, nil))
	push("o/index", "v1", imagetest.Index(labelled(arm, nil), labelled(imagetest.Linux, both)))
	push("o/index-arm", "v1", imagetest.Index(labelled(imagetest.Linux, nil), labelled(arm, both)))
	push("o/index-apart", "v1", imagetest.Index(labelled(imagetest.Linux, map[string]string{"team": "net"}), labelled(arm, map[string]string{"tier": "1"})))
	host := start(t, s).Host
	for uri, want := range map[string]string{
		"quay://o/*:v1?label=team":                "[both:v1 index:v1 index-apart:v1 index-arm:v1 one:v1 other:v1]",
		"quay://o/*:v1?label=team=net":            "[both:v1 index:v1 index-apart:v1 index-arm:v1 one:v1]",
		"quay://o/*:v1?label=team=net&label=tier": "[both:v1 index:v1 index-arm:v1]",
		"quay://o/*:v*?label=team=net&label=tier": "[both:v1 index:v1 index-arm:v1]",
		"quay://o/*:v1?label=empty=":              "[other:v1]",
		"quay://o/*:v1?label=Team":                "[]",
	} {
		if got, err := names(t.Context(), mustOpen(t, uri, env(host))); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, %v, want %s", uri, got, err, want)
		}
	}
}

// The labels of the newest tags are asked for, and of no more than needed; a
// manifest under several tags is asked for once.
func TestQuayLabelRequests(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	fill(t, s, "o/a", tag("v1", 1, day(1)), tag("v2", 2, day(2)), tag("v3", 3, day(3)), tag("v3-again", 3, day(3)), tag("v4", 4, day(4)))
	images := mustOpen(t, "quay://o/a?latest=1&label=seed=3", env(start(t, s).Host))
	if got, err := names(t.Context(), images); err != nil || fmt.Sprint(got) != "[a:v3]" {
		t.Errorf("got %v, %v", got, err)
	}
	if n := s.Counts()["api.labels"]; n != 2 {
		t.Errorf("%d requests for labels", n)
	}
}

// An image that several indexes name, or one index twice, is asked for once.
func TestQuayLabelRequestsOfIndexes(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	index := func(seed uint64) imagetest.Image { return imagetest.Index(image(1), image(seed), image(1)) }
	fill(t, s, "o/a", quaytest.BulkTag{Name: "v1", Image: index(2), Start: day(1)}, quaytest.BulkTag{Name: "v2", Image: index(3), Start: day(2)})
	images := mustOpen(t, "quay://o/a:*?label=nosuch", env(start(t, s).Host))
	if got, err := names(t.Context(), images); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if n := s.Counts()["api.labels"]; n != 3 {
		t.Errorf("%d requests for the labels of 3 images", n)
	}
}

// A tag that moves between its listing and the question for its labels is
// taken as it is now.
func TestQuayLabelOfMovedTag(t *testing.T) {
	var s *quaytest.Server
	moved := false
	s = quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if strings.HasSuffix(r.URL.Path, "/labels") && !moved {
			moved = true
			if err := s.MoveTag("o/a", "v1", image(2).Desc.Digest); err != nil {
				t.Error(err)
			}
		}
		return quaytest.Fault{}
	}})
	fill(t, s, "o/a", tag("old", 2, day(1)), tag("v1", 1, day(1)))
	images := mustOpen(t, "quay://o/a:v1?label=seed", env(start(t, s).Host))
	for item, err := range images.Discover(t.Context()) {
		if err != nil || item.Desc.Digest != image(2).Desc.Digest {
			t.Errorf("got %v, %v", item, err)
		}
	}
	if l := listing(images); l.Found != 1 || !moved {
		t.Errorf("listing %+v", l)
	}
}

// Quay lists newest first, so older pages are left alone where they can't matter.
func TestQuayLeavesOldPages(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	img := image(1)
	var tags []quaytest.BulkTag
	for i := range 450 {
		tags = append(tags, quaytest.BulkTag{Name: fmt.Sprintf("t%03d", i), Image: img, Start: day(1).Add(time.Duration(i) * time.Hour)})
	}
	fill(t, s, "o/a", tags...)
	host := start(t, s).Host
	for uri, want := range map[string][2]int{ // images, requests
		"quay://o/a:*":            {450, 5},
		"quay://o/a:*?latest=3":   {3, 1},
		"quay://o/a:*0?latest=11": {11, 2},
		"quay://o/a:*?since=" + day(1).Add(360*time.Hour).Format(time.RFC3339): {90, 1},
		"quay://o/a:*?since=" + day(1).Add(250*time.Hour).Format(time.RFC3339): {200, 3},
	} {
		s.Reset()
		got, err := names(t.Context(), mustOpen(t, uri, env(host)))
		if n := [2]int{len(got), s.Counts()["api.tags"]}; err != nil || n != want {
			t.Errorf("%s: got %v, %v, want %v", uri, n, err, want)
		}
	}
}

func TestQuayRefusesWhatItCantRead(t *testing.T) {
	tests := []struct{ uri, want string }{
		{"quay://", "quay://ORG"},
		{"quay:///x", "quay://ORG"},
		{"quay://o:latest", "quay://o/*:latest"},
		{"quay://quay.io/o/a:1", "is the host"},
		{"quay://A/x", "no organisation"},
		{"quay://../x", "no organisation"},
		{"quay://o/a@sha256:" + hex64, "registry://"},
		{"quay://u:p@o/a", "--quay-api-token"},
		{"quay://o/a:b c", "no tag"},
		{"quay://o/a:-x", "no tag"},
		{"quay://o?since=yesterday", "since=2026-01-31"},
		{"quay://o?since=2026-02-30", "since=2026-01-31"},
		{"quay://o?since=20260101", "since=2026-01-31"},
		{"quay://o?until=2026-01-01T00:00", "until=2026-01-31T15:04:05Z"},
		{"quay://o?since=0000-01-01", "since=2026-01-31"},
		{"quay://o?since=2026-02-01&until=2026-01-01", "behind"},
		{"quay://o?latest=0", "whole number"},
		{"quay://o?latest=many", "whole number"},
		{"quay://o?companions=maybe", "true or false"},
		{"quay://o?semver=newest", "semver=>=1.2 <2"},
		{"quay://o?label==v", "label=KEY=VALUE"},
		{"quay://o?host=https://quay.example.com", "host=quay.example.com"},
		{"quay://o?sinse=2026-01-01", "until"},
	}
	for _, tt := range tests {
		if _, err := open(t, tt.uri, backend.Env{HTTP: http.DefaultClient}); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.uri, err, tt.want)
		}
	}
}

func TestQuayHidesTheTokenInErrors(t *testing.T) {
	if _, err := open(t, "quay://o?token=hunter2&since=x", backend.Env{HTTP: http.DefaultClient}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// FuzzQuayURI opens whatever is written; nothing is asked of any server.
func FuzzQuayURI(f *testing.F) {
	for _, seed := range []string{"quay://o/nova-?:v1?since=2026-01-01", "quay://o/[:]?latest=1&semver=>1", "quay://o/a:b:c?label=k=v&exclude=a:b", "quay://o?until=2026-01-01T00:00:00+02:00"} {
		f.Add(seed)
	}
	k, err := discover.Table.Find("quay", "source")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := backend.ParseURI(s)
		if err != nil || k.CheckOptions(u) != nil {
			return
		}
		images, err := k.Source(t.Context(), u, backend.Env{HTTP: http.DefaultClient})
		if (err == nil) == (images == nil) || err != nil && !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q: got %v, %v", s, images, err)
		}
	})
}
