package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// maxAuthFile bounds an auth file, in bytes.
const maxAuthFile = 4 << 20

// dockerKey is the key of docker.io in auth files.
const dockerKey = "https://index.docker.io/v1/"

// An authFile is a file in the format that podman's auth.json and docker's
// config.json share. What we don't know of it is kept.
type authFile struct {
	path    string
	keys    map[string]json.RawMessage // the whole object
	auths   map[string]json.RawMessage
	helpers map[string]string // credHelpers
	store   string            // credsStore
}

type authEntry struct {
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// openAuthFile reads path. A file that isn't there is an error matching
// fs.ErrNotExist, one that can't be used matches [oci.ErrUsage]. No error shows
// what is in it.
func openAuthFile(path string) (*authFile, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, oci.Usage(fmt.Sprintf("auth file: %v", err))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxAuthFile+1))
	if err != nil {
		return nil, oci.Usage(fmt.Sprintf("auth file: %v", err))
	}
	if len(raw) > maxAuthFile {
		return nil, oci.Usage(fmt.Sprintf("auth file %s is over %d MiB", path, maxAuthFile>>20))
	}
	return parseAuthFile(path, raw)
}

func parseAuthFile(path string, raw []byte) (*authFile, error) {
	f := &authFile{path: path, keys: map[string]json.RawMessage{}}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 { // as "touch" leaves it
		return f, nil
	}
	bad := func(what string) (*authFile, error) {
		return nil, oci.Usage(fmt.Sprintf("auth file %s: %s", path, what))
	}
	if json.Unmarshal(raw, &f.keys) != nil || f.keys == nil {
		return bad("is no JSON object")
	}
	for key, into := range map[string]any{"auths": &f.auths, "credHelpers": &f.helpers, "credsStore": &f.store} {
		if v, ok := f.keys[key]; ok && json.Unmarshal(v, into) != nil {
			return bad(key + " is malformed")
		}
	}
	return f, nil
}

// entry gives what auths holds under key, anonymous if nothing.
func (f *authFile) entry(key string) (Credential, error) {
	raw, ok := f.auths[key]
	if !ok {
		return Credential{}, nil
	}
	bad := oci.Usage(fmt.Sprintf("auth file %s: the entry of %s is malformed", f.path, Text(key, 200)))
	var e authEntry
	if json.Unmarshal(raw, &e) != nil {
		return Credential{}, bad
	}
	c := Credential{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			if text, err = base64.RawStdEncoding.DecodeString(e.Auth); err != nil {
				return Credential{}, bad
			}
		}
		user, password, ok := strings.Cut(string(text), ":")
		if !ok {
			return Credential{}, bad
		}
		c.Username, c.Password = user, strings.Trim(password, "\x00") // docker pads
	}
	if c.IdentityToken != "" {
		c.Password = "" // the user name is a placeholder then
	}
	return c, nil
}

// lookupKeys gives the keys that a repository's login may be under, the most
// specific first: host/a/b, host/a, host. docker.io has older names as well.
func lookupKeys(host, repository string) []string {
	names := []string{host}
	if wireHost(host) == "registry-1.docker.io" {
		names = []string{"docker.io", "registry-1.docker.io", "index.docker.io"}
	}
	var keys []string
	for path := repository; path != ""; path, _ = cutLast(path) {
		for _, n := range names {
			keys = append(keys, n+"/"+path)
		}
	}
	return append(keys, names...)
}

// oldKeys are how docker wrote hosts once.
func oldKeys(host string) []string {
	names := []string{host}
	if wireHost(host) == "registry-1.docker.io" {
		names = []string{"index.docker.io", "docker.io", "registry-1.docker.io"}
	}
	var keys []string
	for _, n := range names {
		for _, tail := range []string{"/v1/", "/v2/", "/v1", "/v2", "/", ""} {
			keys = append(keys, "https://"+n+tail, "http://"+n+tail)
		}
	}
	return keys
}

// loginKeys are the keys that a login for place, a host or host/path, may be
// under in a file. The first is the one it is written to.
func loginKeys(place string) []string {
	host, path, _ := strings.Cut(place, "/")
	hub := wireHost(host) == "registry-1.docker.io"
	switch {
	case path != "" && hub:
		return []string{"docker.io/" + path}
	case path != "":
		return []string{place}
	case hub:
		return append([]string{dockerKey, "docker.io", "registry-1.docker.io", "index.docker.io"}, oldKeys(host)...)
	}
	return append([]string{host}, oldKeys(host)...)
}
