package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// front starts a proxy before an empty registry.
func front(t *testing.T, change func(p *proxy, address string)) (host string) {
	t.Helper()
	next := httptest.NewServer(registry.New())
	t.Cleanup(next.Close)
	to, err := url.Parse(next.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(to)
	s := httptest.NewUnstartedServer(p)
	s.Config.ConnState = p.counter.connState
	s.Start()
	t.Cleanup(s.Close)
	change(p, s.URL)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestRefusedMountsStartUploads(t *testing.T) {
	host := front(t, func(p *proxy, _ string) { p.nomount = true })
	_, header, err := newClient().ask(t.Context(), http.StatusAccepted, http.MethodPost, "http://"+host+"/v2/a/blobs/uploads/?mount="+sum(nil)+"&from=b", nil)
	if err != nil || header.Get("Location") == "" {
		t.Errorf("%v, %v", header, err)
	}
	got, err := stats(t.Context(), host)
	if want := (counts{"POST.mount": 1, "total": 1, "conns": 1}); err != nil || !maps.Equal(got, want) {
		t.Errorf("counted %v, %v, want %v", got, err, want)
	}
	if got, err := stats(t.Context(), host); err != nil || got["total"] != 0 {
		t.Errorf("counted %v, %v after that was told", got, err)
	}
}

func TestTokensAreAskedFor(t *testing.T) {
	host := front(t, func(p *proxy, url string) { p.tokens = &tokens{realm: url + "/token"} })
	c := newClient()
	upload := "http://" + host + "/v2/a/blobs/uploads/?mount=" + sum(nil) + "&from=b"
	_, header, err := c.ask(t.Context(), http.StatusUnauthorized, http.MethodPost, upload, nil)
	if want := `Bearer realm="http://` + host + `/token",service="bench",scope="repository:a:pull,push repository:b:pull"`; err != nil || header.Get("Www-Authenticate") != want {
		t.Errorf("%v, %v, want %s", header, err, want)
	}
	raw, _, err := c.ask(t.Context(), http.StatusOK, http.MethodGet, "http://"+host+"/token?scope=repository:a:pull,push&scope=repository:b:pull", nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Token string }
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ask(t.Context(), http.StatusAccepted, http.MethodPost, upload, nil, "Authorization", "Bearer "+answer.Token); err != nil {
		t.Error(err)
	}
	if _, _, err := c.ask(t.Context(), http.StatusUnauthorized, http.MethodPost, strings.Replace(upload, "/v2/a/", "/v2/b/", 1), nil, "Authorization", "Bearer "+answer.Token); err != nil {
		t.Errorf("a token to read allows to write: %v", err)
	}
}

func TestTokensHoldWhatTheyMay(t *testing.T) {
	asked := []string{"repository:a:pull,push", "repository:b:pull", "repository:c:pull,push", "repository:d:pull"}
	tests := []struct {
		name string
		most int
		want []string
	}{
		{"any number", 0, asked},
		{"one, and where to mount from", 1, asked[:2]},
		{"two, and where to mount from", 2, asked[:3]},
	}
	for _, tt := range tests {
		if got := (&tokens{most: tt.most}).held(asked); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestQuayHoldsToItsLimit(t *testing.T) {
	h, _, err := newQuay(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	refused := 0
	for range 2 * quayBurst {
		_, _, err := newClient().ask(t.Context(), http.StatusOK, http.MethodGet, s.URL+"/api/v1/repository?namespace="+quayOrg+"&public=true", nil)
		if err != nil {
			refused++
		}
	}
	got, err := stats(t.Context(), strings.TrimPrefix(s.URL, "http://"))
	if err != nil || refused == 0 || got["limited"] != refused || got["total"] != 2*quayBurst {
		t.Errorf("counted %v, %v; %d were refused", got, err, refused)
	}
}
