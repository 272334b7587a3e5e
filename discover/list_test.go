package discover_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

func write(t *testing.T, content string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "images.txt")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestList(t *testing.T) {
	file := write(t, "\ufeff# what we run\r\nquay.io/kolla/nova-api:1 # the API\r\n\n  h.example:5000/a/b/c@sha256:"+hex64+"\nquay.io/kolla/nova-api:1\nkolla/glance\nh.example/x:t@sha256:"+hex64)
	images := mustOpen(t, "list://"+file+"?registry=quay.example.com:8443", backend.Env{})
	var got []string
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Bytes != -1 || item.Ref.Digest != "" {
			t.Errorf("item %+v", item)
		}
		got = append(got, fmt.Sprint(item.Ref, " ", item.Desc.Digest))
	}
	want := []string{
		"quay.io/kolla/nova-api:1 ",
		"h.example:5000/a/b/c sha256:" + hex64,
		"quay.example.com:8443/kolla/glance:latest ",
		"h.example/x:t sha256:" + hex64,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if l := listing(images); l.Found != 4 || !l.Done || l.Repositories != 4 || !images.Bulk() {
		t.Errorf("listing %+v", l)
	}
}

func TestListOfReport(t *testing.T) {
	report, err := json.MarshalIndent(oci.Report{Version: oci.ReportVersion, Images: []oci.ImageReport{
		{Reference: "quay.io/o/a:1", Status: oci.StatusCopied},
		{Reference: "quay.io/o/b:1", Status: oci.StatusFailed, Digest: "sha256:" + hex64},
		{Reference: "quay.io/o/c:1", Status: oci.StatusSkipped},
		{Reference: "quay.io/o/d:1", Status: oci.StatusInterrupted},
	}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got, err := names(t.Context(), mustOpen(t, "list://"+write(t, "\n"+string(report)), backend.Env{}))
	if err != nil || fmt.Sprint(got) != "[b:1 d:1]" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestListRefuses(t *testing.T) {
	tests := []struct{ name, content, query, want string }{
		{"no host", "quay.io/a/b:1\n\nkolla/nova\n", "", ":3: "},
		{"two on a line", "quay.io/a/b:1 quay.io/a/c:1", "", ":1: "},
		{"traversal", "quay.io/a/../b:1", "", ":1: "},
		{"a URI", "# x\nregistry://quay.io/a/b", "", ":2: "},
		{"a line without end", "quay.io/a/b:1\n" + strings.Repeat("x", 70<<10), "", ":2: a line over 65536 bytes"},
		{"bytes", "\x1f\x8b\x00", "", ":1: "},
		{"half a report", "{\n\"images\": [\n{\"reference\"", "", ":3: "},
		{"a report without images", "{}", "", "no images"},
		{"a report of other types", `{"images":[{"reference":7}]}`, "", ":1: "},
		{"a bad reference in a report", `{"images":[{"status":"failed","reference":"x"}]}`, "", "image 1"},
		{"registry", "a:1", "?registry=https://x", "registry=quay.example.com"},
		{"option", "a:1", "?since=2026-01-01", "registry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.content)
			_, err := open(t, "list://"+file+tt.query, backend.Env{})
			if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	for _, uri := range []string{"list://", "list://" + t.TempDir(), "list:///no/such/file"} {
		if _, err := open(t, uri, backend.Env{}); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%s: got %v", uri, err)
		}
	}
}
