package discover_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a server names and can't be is left out, and the user is told once.
func TestQuayLeavesOutWhatCantBe(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/repository":
			_, _ = io.WriteString(w, `{"repositories":[{"namespace":"o","name":"../x"},{"namespace":"o","name":"a"},{"namespace":"o","name":"b"}]}`)
		case strings.Contains(r.URL.Path, "/b/"):
			_, _ = io.WriteString(w, `{"tags":[{"name":"v1","manifest_digest":"sha256:`+hex64+`","start_ts":1}]}`)
		default:
			_, _ = io.WriteString(w, `{"tags":[{"name":"v1","manifest_digest":"../\u001b","start_ts":1}]}`)
		}
	}))
	t.Cleanup(server.Close)
	for _, uri := range []string{"quay://o/*:v1", "quay://o/*:v*"} {
		var warned []string
		e := env(strings.TrimPrefix(server.URL, "http://"))
		e.Warn = func(line string) { warned = append(warned, line) }
		got, err := names(t.Context(), mustOpen(t, uri, e))
		if err != nil || fmt.Sprint(got) != "[b:v1]" {
			t.Errorf("%s: got %v, %v", uri, got, err)
		}
		if len(warned) != 1 || !strings.Contains(warned[0], "2 left out") || strings.Contains(warned[0], "\x1b") {
			t.Errorf("%s: warned %q", uri, warned)
		}
	}
}
