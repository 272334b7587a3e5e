package registry_test

import (
	"net/http"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// mounting gives a registry that holds c in repository b, and a destination in a.
func mounting(t *testing.T, c *content) (*far, oci.Destination) {
	t.Helper()
	f := newFar(t)
	if _, err := f.destination(t, "b", "1").PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	f.log()
	c.opened.Store(0)
	return f, f.destination(t, "a", "1")
}

// refusing makes the registry answer mounts with an upload, as it may.
func refusing(_ http.ResponseWriter, r *http.Request) bool {
	if r.URL.Query().Has("mount") {
		r.URL.RawQuery = ""
	}
	return false
}

func TestMount(t *testing.T) {
	c := random(1, small)
	f, dst := mounting(t, c)
	mounted, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b")
	if err != nil || !mounted {
		t.Fatalf("got %v, %v", mounted, err)
	}
	if asked := f.log(); len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
	f.has(t, "a", c)
}

func TestARefusedMountIsTheStartOfAnUpload(t *testing.T) {
	c := random(2, small)
	f, dst := mounting(t, c)
	f.fail(refusing)
	mounted, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b")
	if err != nil || mounted {
		t.Fatalf("got %v, %v", mounted, err)
	}
	if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	if asked := f.log(); len(asked) != 2 || count(asked, "POST", "") != 1 || count(asked, "PUT", "") != 1 {
		t.Errorf("asked %q", asked)
	}
	f.has(t, "a", c)
}

func TestALostSessionOfAMountIsReplaced(t *testing.T) {
	c := random(3, small)
	f, dst := mounting(t, c)
	f.fail(refusing)
	if _, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b"); err != nil {
		t.Fatal(err)
	}
	f.fail(once("PUT", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 404, "BLOB_UPLOAD_UNKNOWN") }))
	if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	f.has(t, "a", c)
}

func TestCloseCancelsTheSessionsOfMounts(t *testing.T) {
	c := random(4, small)
	f, dst := mounting(t, c)
	f.fail(refusing)
	for range 2 { // the second session takes the first one's place
		if _, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if asked := f.log(); count(asked, "POST", "") != 2 || count(asked, "DELETE", "/uploads/") != 2 {
		t.Errorf("asked %q", asked)
	}
}

func TestMountThatTheRegistryDoesNotKnow(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405} {
		c := random(5, small)
		f, dst := mounting(t, c)
		f.fail(func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Query().Has("mount") && answer(w, status, "UNSUPPORTED")
		})
		mounted, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b")
		if err != nil || mounted {
			t.Errorf("%d: got %v, %v", status, mounted, err)
		}
		if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
			t.Error(err)
		}
	}
}

func TestMountUnderFaults(t *testing.T) {
	c := random(6, small)
	f, dst := mounting(t, c)
	f.fail(once("POST", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return reset(w) }))
	if mounted, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b"); err != nil || !mounted {
		t.Errorf("got %v, %v", mounted, err)
	}
}

func TestSiblingReadsAnotherRepository(t *testing.T) {
	c := random(7, small)
	_, dst := mounting(t, c)
	got, err := fetch(t.Context(), dst.(oci.Mounter).Sibling("b"), c.desc())
	if err != nil || len(got) != small {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestHas(t *testing.T) {
	c := random(8, small)
	f, dst := mounting(t, c)
	tests := []struct {
		name string
		repo string
		fail int
		want bool
	}{
		{"there", "b", 0, true},
		{"not there", "a", 0, false},
		{"a repository that can't be seen", "b", 401, false},
		{"forbidden", "b", 403, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.fail(func(w http.ResponseWriter, r *http.Request) bool { return tt.fail != 0 && answer(w, tt.fail, "") })
			if got, err := f.destination(t, tt.repo, "1").Has(t.Context(), c.desc()); err != nil || got != tt.want {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	f.fail(func(w http.ResponseWriter, r *http.Request) bool { return answer(w, 500, "") })
	if _, err := dst.Has(t.Context(), c.desc()); err == nil {
		t.Error("an outage passes for an answer")
	}
}
