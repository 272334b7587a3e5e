package bulk_test

import (
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

func TestNaming(t *testing.T) {
	nova := oci.Item{Ref: oci.Ref{Registry: "quay.io", Repository: "kolla/team/svc", Tag: "1"}}
	tests := []struct {
		name   string
		naming bulk.Naming
		item   oci.Item
		want   string // "" is a usage error
	}{
		{"host", bulk.Naming{Registry: "h:5000"}, nova, "h:5000/kolla/team/svc:1"},
		{"prefix", bulk.Naming{Registry: "h:5000", Prefix: "up/stream"}, nova, "h:5000/up/stream/kolla/team/svc:1"},
		{"strip", bulk.Naming{Registry: "h:5000", StripNamespace: true}, nova, "h:5000/team/svc:1"},
		{"strip where there is none", bulk.Naming{Registry: "h:5000", StripNamespace: true}, oci.Item{Ref: oci.Ref{Repository: "svc", Tag: "1"}}, "h:5000/svc:1"},
		{"template", bulk.Naming{Registry: "h:5000", Prefix: "p", Template: "{namespace}-{name}:{tag}-x"}, nova, "h:5000/p/kolla-svc:1-x"},
		{"template with repo", bulk.Naming{Registry: "h:5000", Template: "{repo}:{tag}"}, nova, "h:5000/team/svc:1"},
		{"bare tag under a prefix", bulk.Naming{Registry: "h:5000", Prefix: "p"}, oci.Item{Ref: oci.Ref{Tag: "1"}}, "h:5000/p:1"},
		{"bare tag", bulk.Naming{Registry: "h:5000"}, oci.Item{Ref: oci.Ref{Tag: "1"}}, ""},
		{"unknown placeholder", bulk.Naming{Registry: "h:5000", Template: "{repository}"}, nova, ""},
		{"invalid name", bulk.Naming{Registry: "h:5000", Template: "{repo}:{tag}:x"}, nova, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.naming.Name(tt.item)
			if tt.want == "" {
				if !errors.Is(err, oci.ErrUsage) {
					t.Fatalf("got %v, %v, want a usage error", got, err)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Fatalf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}
