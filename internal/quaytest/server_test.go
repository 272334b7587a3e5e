package quaytest_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestBlobsComeFromAnotherHost goes the way of a pull, and looks at what was
// counted on it.
func TestBlobsComeFromAnotherHost(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	if err := s.Push(t.Context(), "org/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	run := s.Start()
	defer run.Close()
	for d, want := range img.Blobs {
		resp, err := http.Get(run.URL + "/v2/org/app/blobs/" + string(d))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
			t.Fatalf("got %s, %d bytes, %v; want %d bytes", resp.Status, len(got), err, len(want))
		}
		if resp.Request.URL.Host != run.StorageHost {
			t.Errorf("it came from %s, want %s", resp.Request.URL.Host, run.StorageHost)
		}
		if n := s.Transfers().Gets[quaytest.Blob{Repository: "org/app", Digest: d}]; n != 1 {
			t.Errorf("%s was counted %d times, want 1", d, n)
		}
	}
	if got := s.Counts()["storage.get"]; got != len(img.Blobs) {
		t.Errorf("%d requests to the storage were counted, want %d", got, len(img.Blobs))
	}
}

// TestPush pushes by HTTP into both stores, with the token that a challenge
// leads to.
func TestPush(t *testing.T) {
	disk, err := quaytest.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]quaytest.Options{"memory": {}, "disk": {Store: disk}} {
		t.Run(name, func(t *testing.T) {
			s := quaytest.New(o)
			s.CreateUser("alice", "secret")
			s.CreateOrg("org", "alice")
			run := s.Start()
			defer run.Close()
			img := imagetest.Index(imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000), imagetest.Random(2, 100)))
			auth := "Bearer " + v2Token(t, run.URL, run.Host, "alice", "secret", "repository:org/new:push,pull")
			if err := img.Push(t.Context(), run.URL, "org/new", "v1", auth); err != nil {
				t.Fatal(err)
			}
			if got := len(s.Transfers().Puts); got != 3 {
				t.Errorf("%d puts were counted, want 3", got)
			}
			req, _ := http.NewRequest("GET", run.URL+"/v2/org/new/manifests/v1", nil)
			req.Header.Set("Accept", img.Desc.MediaType)
			req.Header.Set("Authorization", auth)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if !bytes.Equal(got, img.Raw) {
				t.Errorf("got %s %s, want the index", resp.Status, got)
			}
		})
	}
}
