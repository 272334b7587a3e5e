package index_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

func diff(res *index.Result) string {
	var out []string
	for _, c := range res.Changes {
		out = append(out, fmt.Sprintf("%s %s %s>%s", c.Action, index.Name(c.Platform), short(c.Old), short(c.New)))
	}
	return strings.Join(out, ", ")
}

func TestChanges(t *testing.T) {
	tests := []struct {
		name         string
		source, dest *index.Index
		opt          index.Options
		want         string
	}{
		{"A3 A5", fresh(t), old(t), index.Options{}, "replaced linux/arm64 1111>6666, replaced linux/ppc64le 3333>7777, added linux/s390x >8888, kept linux/armhfp 2222>2222, kept linux/amd64 5555>5555"},
		{"A7", fresh(t), old(t), index.Options{Eligible: only("linux/s390x")}, "added linux/s390x >8888, kept linux/arm64 1111>1111, kept linux/armhfp 2222>2222, kept linux/ppc64le 3333>3333, kept linux/amd64 5555>5555"},
		{"no destination", fresh(t), nil, index.Options{Eligible: only("linux/s390x")}, "added linux/s390x >8888"},
		{"unchanged", fresh(t), docker(t, "linux/arm64=6666"), index.Options{}, "unchanged linux/arm64 6666>6666, added linux/ppc64le >7777, added linux/s390x >8888"},
		{"one for two builds", docker(t, "windows/amd64:10.0.17763.3=aa"), docker(t, "windows/amd64:10.0.17763.1=b1", "windows/amd64:10.0.17763.2=b2"), index.Options{},
			"replaced windows/amd64:10.0.17763.3 b1>aa, dropped windows/amd64:10.0.17763.2 b2>"},
		{"two for one", docker(t, "linux/amd64=aa", "linux/amd64=ab"), docker(t, "linux/amd64=b1"), index.Options{}, "replaced linux/amd64 b1>aa, added linux/amd64 >ab"},
		{"one of two stays", docker(t, "linux/amd64=aa"), docker(t, "linux/amd64=b1", "linux/amd64=aa"), index.Options{}, "unchanged linux/amd64 aa>aa, dropped linux/amd64 b1>"},
		{"without a platform", docker(t, "-=aa", "-=ab"), docker(t, "-=aa", "-=bb"), index.Options{}, "unchanged unknown aa>aa, added unknown >ab, kept unknown bb>bb"},
		{"attestations make none", docker(t, "linux/amd64=aa"), docker(t, "linux/amd64=b1", "att:b1=c1"), index.Options{}, "replaced linux/amd64 b1>aa"},
		{"what stands there twice is one", docker(t, "linux/amd64=aa"), docker(t, "linux/386=bb", "linux/386=bb"), index.Options{}, "added linux/amd64 >aa, kept linux/386 bb>bb"},
	}
	for _, tt := range tests {
		if got := diff(merge(t, tt.source, tt.dest, tt.opt)); got != tt.want {
			t.Errorf("%s: got  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	twice := "linux/amd64 twice: " + string(long("aa")) + " and " + string(long("ab"))
	tests := []struct {
		name         string
		source, dest *index.Index
		want         string
	}{
		{"nothing to say", fresh(t), old(t), ""},
		{"a platform twice in the source", docker(t, "linux/amd64=aa", "linux/x86_64=ab"), old(t), "the source has " + twice},
		{"a platform twice in the destination", fresh(t), docker(t, "linux/amd64=aa", "linux/amd64=ab"), "the destination has " + twice},
		{"both are replaced", docker(t, "linux/amd64=aa"), docker(t, "linux/amd64=b1", "linux/amd64=b2"), ""},
		{"no platform", fresh(t), docker(t, "-=aa"), "the destination doesn't say the platform of " + string(long("aa")) + ": only its digest tells it apart"},
	}
	for _, tt := range tests {
		if got := strings.Join(merge(t, tt.source, tt.dest, index.Options{}).Warnings, "\n"); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFilter(t *testing.T) {
	ix := list(t, oci.MediaTypeIndex, top, "oci linux/amd64=aa", "att:aa=a1", "oci linux/arm=ab", "att:ab=a2", "-=ac", "att:ff=a3")
	keep := func(names ...string) func(oci.Descriptor) bool {
		return func(d oci.Descriptor) bool {
			if _, is := index.Attests(d); is {
				t.Error("asked about an attestation")
			}
			p := oci.Platform{}
			if d.Platform != nil {
				p = *d.Platform
			}
			return only(names...)(p)
		}
	}
	tests := []struct {
		name       string
		keep       func(oci.Descriptor) bool
		want, diff string
	}{
		{"all: its bytes", keep("linux/amd64", "linux/arm/v7", "unknown"), "aa a1 ab a2 ac a3", "kept linux/amd64 aa>aa, kept linux/arm/v7 ab>ab, kept unknown ac>ac"},
		{"one, and what is about it", keep("linux/arm/v7"), "ab a2", "kept linux/arm/v7 ab>ab, dropped linux/amd64 aa>, dropped unknown ac>"},
		{"none", keep(), "", "dropped linux/amd64 aa>, dropped linux/arm/v7 ab>, dropped unknown ac>"},
	}
	for _, tt := range tests {
		for _, style := range []index.Style{index.Compact, index.Pubtools} {
			res, err := index.Filter(ix, tt.keep, index.Options{Style: style})
			if err != nil {
				t.Fatal(err)
			}
			if got := digests(&res.Index); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
			if got := diff(res); got != tt.diff {
				t.Errorf("%s: got  %s\nwant %s", tt.name, got, tt.diff)
			}
			if whole := string(res.Raw) == string(ix.Raw); whole != (len(res.Entries) == len(ix.Entries)) {
				t.Errorf("%s: the bytes are %s", tt.name, res.Raw)
			}
		}
	}
}
