package transport

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// installHelper puts a credential helper into PATH that keeps logins in files.
func installHelper(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, "docker-credential-"+name), `#!/bin/sh
cd "`+dir+`" || exit 1
in=$(cat)
case $1 in
get)
	f=$(echo "$in" | tr '/:' '__')
	echo "$in" >>asked
	if [ -f "kept-$f" ]; then cat "kept-$f"; else echo "credentials not found in native keychain"; exit 1; fi ;;
store)
	f=$(echo "$in" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr '/:' '__')
	echo "$in" >"kept-$f" ;;
erase)
	rm "kept-$(echo "$in" | tr '/:' '__')" ;;
esac
`, 0o700)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestStoreLookup(t *testing.T) {
	auth := func(user string) string { return fmt.Sprintf(`{"auth":%q}`, b64(user+":pw")) }
	entries := func(pairs ...string) string {
		var parts []string
		for i := 0; i < len(pairs); i += 2 {
			parts = append(parts, fmt.Sprintf("%q:%s", pairs[i], auth(pairs[i+1])))
		}
		return `{"auths":{` + strings.Join(parts, ",") + `}}`
	}
	orgs := entries("quay.io/org1", "one", "quay.io/org2", "two", "quay.io/org1/deep/repo", "deep")
	tests := []struct {
		name             string
		files            []string // authfile, runtime, docker; "" is absent
		host, repository string
		want             string // user
	}{
		{"host", []string{entries("quay.io", "all")}, "quay.io", "a/b", "all"},
		{"organisation", []string{orgs}, "quay.io", "org2/x", "two"},
		{"longest path", []string{orgs}, "quay.io", "org1/deep/repo", "deep"},
		{"a prefix is of whole parts", []string{orgs}, "quay.io", "org11/x", ""},
		{"neighbour", []string{orgs}, "quay.io", "org1/deep/repo2", "one"},
		{"none of several organisations", []string{orgs}, "quay.io", "org3/x", ""},
		{"registry itself", []string{orgs}, "quay.io", "", ""},
		{"port counts", []string{entries("quay.io:8443", "port")}, "quay.io", "a", ""},
		{"with port", []string{entries("quay.io:8443", "port")}, "quay.io:8443", "a", "port"},
		{"no host by its ending", []string{entries("io", "x", "uay.io", "y")}, "quay.io", "a", ""},
		{"old key", []string{entries("https://quay.io/v1/", "old")}, "quay.io", "a", "old"},
		{"docker's key", []string{entries(dockerKey, "hub")}, "registry-1.docker.io", "library/alpine", "hub"},
		{"docker.io by name", []string{entries("docker.io", "hub")}, "registry-1.docker.io", "library/alpine", "hub"},
		{"docker.io by path", []string{entries("docker.io/me", "mine", dockerKey, "hub")}, "registry-1.docker.io", "me/x", "mine"},
		{"first file wins, whatever the path", []string{entries("quay.io", "first"), entries("quay.io/a", "second")}, "quay.io", "a/b", "first"},
		{"next file", []string{entries("other.io", "x"), "", entries("quay.io", "third")}, "quay.io", "a", "third"},
		{"an empty file", []string{"", " \n", entries("quay.io", "third")}, "quay.io", "a", "third"},
		{"an empty entry", []string{`{"auths":{"quay.io/a":{}, "quay.io":` + auth("all") + `}}`}, "quay.io", "a", "all"},
		{"name and password", []string{`{"auths":{"quay.io":{"username":"plain","password":"pw"}}}`}, "quay.io", "a", "plain"},
		{"password with colons", []string{`{"auths":{"quay.io":{"auth":"` + b64("user:p:w\x00\x00") + `"}}}`}, "quay.io", "a", "user"},
		{"null", []string{`{"auths":null,"credHelpers":null}`}, "quay.io", "a", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p := Paths{RuntimeDir: filepath.Join(dir, "run"), DockerConfig: filepath.Join(dir, "docker")}
			for i, name := range []string{"auth.json", "run/containers/auth.json", "docker/config.json"} {
				if i < len(tt.files) && tt.files[i] != "" {
					writeFile(t, filepath.Join(dir, name), tt.files[i], 0o600)
					if i == 0 {
						p.AuthFile = filepath.Join(dir, name)
					}
				}
			}
			c, err := NewStore(p).Credential(t.Context(), tt.host, tt.repository)
			if err != nil || c.Username != tt.want {
				t.Errorf("got %q, %v; want %q", c.Username, err, tt.want)
			}
			if tt.want != "" && !slices.Contains([]string{"pw", "p:w"}, c.Password) {
				t.Errorf("got password %q", c.Password)
			}
		})
	}
}

func TestStoreErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no JSON", `{"auths":{"quay.io":{"auth":"aHVzaDpodXNo"`, "is no JSON object"},
		{"a list", `[]`, "is no JSON object"},
		{"null", `null`, "is no JSON object"},
		{"auths is a list", `{"auths":["aHVzaDpodXNo"]}`, "auths is malformed"},
		{"no base64", `{"auths":{"quay.io":{"auth":"%hush%"}}}`, "the entry of quay.io is malformed"},
		{"no colon", `{"auths":{"quay.io":{"auth":"` + b64("hush") + `"}}}`, "the entry of quay.io is malformed"},
		{"entry is a string", `{"auths":{"quay.io":"hush"}}`, "the entry of quay.io is malformed"},
		{"helper with a path", `{"credsStore":"../../bin/sh"}`, "is no name of a credential helper"},
		{"helper with a flag", `{"credHelpers":{"quay.io":"x -rf"}}`, "is no name of a credential helper"},
		{"helper of Windows under Linux", `{"credsStore":"wincred.exe"}`, "docker-credential-wincred.exe, which is not installed"},
		{"helper that is not there", `{"credsStore":"no-such-helper-here"}`, "docker-credential-no-such-helper-here, which is not installed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth.json")
			writeFile(t, file, tt.text, 0o600)
			_, err := NewStore(Paths{AuthFile: file}).Credential(t.Context(), "quay.io", "a/b")
			if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want %q of %s", err, tt.want, file)
			}
			if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "aHVzaA")) {
				t.Errorf("%v shows what is in the file", err)
			}
		})
	}
	if _, err := NewStore(Paths{AuthFile: "/nonexistent/auth.json"}).Credential(t.Context(), "quay.io", ""); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("--authfile that isn't there: got %v", err)
	}
	if c, err := NewStore(Paths{Home: "/nonexistent"}).Credential(t.Context(), "quay.io", ""); err != nil || !c.IsZero() {
		t.Errorf("default file that isn't there: got %v, %v", c, err)
	}
}

func TestCredentialHelper(t *testing.T) {
	dir := installHelper(t, "test-store")
	file := filepath.Join(dir, "config.json")
	writeFile(t, file, `{"credsStore":"test-store","auths":{"registry-1.docker.io":{}},"HttpHeaders":{"User-Agent":"x"}}`, 0o600)
	ctx := t.Context()
	for place, c := range map[string]Credential{
		"quay.io":       {Username: "bot", Password: "secret"},
		"docker.io":     {Username: "hubber", Password: "secret"},
		"oauth.example": {IdentityToken: "refresh"},
	} {
		if err := SaveLogin(ctx, file, place, c); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "secret") || strings.Contains(string(raw), b64("bot:secret")) || !strings.Contains(string(raw), "HttpHeaders") {
		t.Errorf("file holds %s", raw)
	}
	s := NewStore(Paths{AuthFile: file})
	for range 2 {
		if c, err := s.Credential(ctx, "quay.io", "a/b"); err != nil || c.Username != "bot" || c.Password != "secret" {
			t.Errorf("got %v, %v", c, err)
		}
	}
	if c, err := s.Credential(ctx, "registry-1.docker.io", "a/b"); err != nil || c.Username != "hubber" {
		t.Errorf("docker.io: got %v, %v", c, err)
	}
	if c, err := s.Credential(ctx, "oauth.example", "a"); err != nil || c.IdentityToken != "refresh" || c.Password != "" {
		t.Errorf("identity token: got %v, %v", c, err)
	}
	if c, err := s.Credential(ctx, "unknown.example", "a"); err != nil || !c.IsZero() {
		t.Errorf("unknown: got %v, %v", c, err)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(asked), "quay.io\n"); n != 1 {
		t.Errorf("the helper was asked %d times for quay.io, want once", n)
	}
	if err := RemoveLogin(ctx, file, "quay.io"); err != nil {
		t.Error(err)
	}
	if err := RemoveLogin(ctx, file, "quay.io"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("second logout: got %v", err)
	}
	if c, err := NewStore(Paths{AuthFile: file}).Credential(ctx, "quay.io", "a"); err != nil || !c.IsZero() {
		t.Errorf("after logout: got %v, %v", c, err)
	}
}

func TestLoginRoundTrip(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "config.json")
	before := `{"auths":{"other.io":{"auth":"` + b64("o:o") + `","email":"x@example.com","future":{"n":12345678901234567890}}},"plugins":{"a":"b"},"detachKeys":"ctrl-e"}`
	writeFile(t, filepath.Join(dir, "real.json"), before, 0o644)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../real.json", file); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	places := map[string]Credential{
		"quay.io":            {Username: "bot", Password: "p:ä$"},
		"quay.io/org1":       {Username: "org1+bot", Password: "x"},
		"docker.io":          {Username: "hub", Password: "y"},
		"token.example:5000": {IdentityToken: "refresh"},
	}
	for place, c := range places {
		if err := SaveLogin(ctx, file, place, c); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Lstat(file); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", fi, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v; want 0600", fi.Mode(), err)
	}
	for place, want := range places {
		host, repo, _ := strings.Cut(place, "/")
		c, err := NewStore(Paths{AuthFile: file}).Credential(ctx, wireHost(host), repo)
		if err != nil || c != want {
			t.Errorf("%s: got %v, %v", place, c, err)
		}
	}
	for place := range places {
		if err := RemoveLogin(ctx, file, place); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := compact(t, raw), compact(t, []byte(before)); got != want {
		t.Errorf("after login and logout:\ngot  %s\nwant %s", got, want)
	}
	for _, bad := range []Credential{{}, {Username: "u"}, {Username: "a:b", Password: "x"}} {
		if err := SaveLogin(ctx, file, "quay.io", bad); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%v: got %v", bad, err)
		}
	}
	if err := RemoveLogin(ctx, filepath.Join(dir, "none.json"), "quay.io"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("no file: got %v", err)
	}
	fresh := filepath.Join(dir, "new", "deep", "auth.json")
	if err := SaveLogin(ctx, fresh, "quay.io", places["quay.io"]); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(fresh)); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want the file alone", entries, err)
	}
}

// compact gives JSON with sorted keys and numbers as they are.
func compact(t *testing.T, raw []byte) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestLoginFile(t *testing.T) {
	dir := t.TempDir()
	p := Paths{RuntimeDir: filepath.Join(dir, "run"), Home: dir}
	if got, want := p.LoginFile(), filepath.Join(dir, ".docker/config.json"); got != want {
		t.Errorf("nothing there: got %s, want %s", got, want)
	}
	writeFile(t, filepath.Join(dir, "run/containers/auth.json"), "{}", 0o600)
	if got, want := p.LoginFile(), filepath.Join(dir, "run/containers/auth.json"); got != want {
		t.Errorf("podman's there: got %s, want %s", got, want)
	}
	p.RegistryAuthFile = "/x"
	if got := p.LoginFile(); got != "/x" {
		t.Errorf("named: got %s", got)
	}
}

func TestPing(t *testing.T) {
	reg := newFakeRegistry(t)
	host := hostOf(t, reg.URL)
	if err := Ping(t.Context(), newTest(t, Options{Credentials: bot(host)}).Client(), host, true); err != nil {
		t.Errorf("right login: %v", err)
	}
	wrong := newTest(t, Options{Credentials: Fixed(host, "bot", "wrong-password")}).Client()
	err := Ping(t.Context(), wrong, host, true)
	if !errors.Is(err, oci.ErrDenied) || strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("wrong login: got %v", err)
	}
	asked := len(reg.all("/v2/auth"))
	if err := Ping(t.Context(), wrong, host, true); !errors.Is(err, oci.ErrDenied) || len(reg.all("/v2/auth")) != asked {
		t.Errorf("a wrong password was shown again at once: %v", err)
	}
}

func TestCredentialsByPathDoNotMix(t *testing.T) {
	reg := newFakeRegistry(t)
	host := hostOf(t, reg.URL)
	file := filepath.Join(t.TempDir(), "auth.json")
	writeFile(t, file, fmt.Sprintf(`{"auths":{"%s/one":{"auth":"%s"},"%s/two":{"auth":"%s"}}}`, host, b64("bot:secret"), host, b64("eve:evil")), 0o600)
	c := newTest(t, Options{Credentials: NewStore(Paths{AuthFile: file}).Credential}).Client()
	fetch(t, c, "GET", reg.URL+"/v2/one/x/manifests/v1")
	if _, _, err := try(c, "GET", reg.URL+"/v2/two/x/manifests/v1", "", "repository:two/x:pull"); !errors.Is(err, oci.ErrDenied) {
		t.Errorf("another path got %v, want its own credential refused", err)
	}
	if status, _ := fetch(t, c, "GET", reg.URL+"/v2/three/x/manifests/v1"); status != 401 {
		t.Errorf("no credential: got %d, want 401", status)
	}
	var users []string
	for _, s := range reg.all("/v2/auth") {
		raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.auth, "Basic "))
		user, _, _ := strings.Cut(string(raw), ":")
		users = append(users, user)
	}
	if got := fmt.Sprint(users); got != "[bot eve ]" {
		t.Errorf("token service saw %s, want bot, eve and nobody", got)
	}
}
