package discover_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

func TestAtLeast(t *testing.T) {
	images := mustOpen(t, "list://"+write(t, "h.x/o/a:1\nh.x/o/b:1\n"), backend.Env{})
	for n, want := range map[int]string{0: "[a:1 b:1]", 1: "[a:1 b:1]", 2: "[a:1 b:1]", 3: "[]"} {
		guarded := discover.AtLeast(images, n)
		got, err := names(t.Context(), guarded)
		if fmt.Sprint(got) != want || errors.Is(err, oci.ErrRefused) != (n == 3) {
			t.Errorf("%d: got %v, %v", n, got, err)
		}
		if n == 3 && !strings.Contains(err.Error(), "2 of at least 3") {
			t.Errorf("text %v", err)
		}
		if l := listing(guarded); l.Found != 2 || !guarded.Bulk() {
			t.Errorf("listing %+v", l)
		}
	}
}

// What a broken listing lacks may be the missing ones: none are given.
func TestAtLeastOfBrokenListing(t *testing.T) {
	s := quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if strings.HasPrefix(r.URL.Path, "/api/v1/repository/o/b/") {
			return quaytest.Fault{Status: 500}
		}
		return quaytest.Fault{}
	}})
	fill(t, s, "o/a", tag("latest", 1, day(1)))
	fill(t, s, "o/b", tag("latest", 1, day(1)))
	got, err := names(t.Context(), discover.AtLeast(mustOpen(t, "quay://o", env(start(t, s).Host)), 1))
	if len(got) != 0 || !errors.Is(err, oci.ErrIncomplete) {
		t.Errorf("got %v, %v", got, err)
	}
}
