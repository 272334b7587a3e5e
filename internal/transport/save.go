package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/quaymaster/quaymaster/oci"
)

// SaveLogin writes the login for place, a host or host/path, to an auth file,
// or to the credential helper that the file names for it. The file is replaced
// as a whole, with mode 0600; what else is in it stays. It doesn't ask the
// registry whether the login is right: [Ping] does.
//
// It returns an error matching [oci.ErrUsage] if c can't be kept (a name with a
// colon) or the file is malformed.
func SaveLogin(ctx context.Context, file, place string, c Credential) error {
	if c.IsZero() || c.IdentityToken == "" && c.RegistryToken == "" && (c.Username == "" || c.Password == "") {
		return oci.Usage("a login needs a user name and a password")
	}
	if strings.Contains(c.Username, ":") {
		return oci.Usage("a user name can't hold a colon")
	}
	f, err := openOrNew(file)
	if err != nil {
		return err
	}
	key := loginKeys(place)[0]
	if helper := f.helperOf(place); helper != "" {
		store, err := openHelper(f, helper)
		if err != nil {
			return err
		}
		if err := store.Put(ctx, key, native(c)); err != nil {
			return helperError(f, helper, err)
		}
		return f.put(key, authEntry{}) // docker's mark that the helper has it
	}
	e := authEntry{IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
	if c.Username != "" || c.Password != "" {
		e.Auth = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	}
	return f.put(key, e)
}

// RemoveLogin takes the login for place out of an auth file and out of the
// helper that it names. It returns an error matching [oci.ErrNotFound] if there
// was none.
func RemoveLogin(ctx context.Context, file, place string) error {
	f, err := openOrNew(file)
	if err != nil {
		return err
	}
	found := false
	for _, key := range loginKeys(place) {
		if _, ok := f.auths[key]; ok {
			delete(f.auths, key)
			found = true
		}
	}
	if helper := f.helperOf(place); helper != "" {
		store, err := openHelper(f, helper)
		if err != nil {
			return err
		}
		key := loginKeys(place)[0]
		c, err := store.Get(ctx, key)
		if err != nil {
			return helperError(f, helper, err)
		}
		if c.Username != "" || c.Password != "" || c.RefreshToken != "" {
			if err := store.Delete(ctx, key); err != nil {
				return helperError(f, helper, err)
			}
			found = true
		}
	}
	if !found {
		return fmt.Errorf("login of %s in %s: %w", Text(place, 200), file, oci.ErrNotFound)
	}
	return f.write()
}

func openOrNew(file string) (*authFile, error) {
	f, err := openAuthFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &authFile{path: file, keys: map[string]json.RawMessage{}}, nil
	}
	return f, err
}

// helperOf gives the helper that keeps the login of place, "" if the file does.
func (f *authFile) helperOf(place string) string {
	for _, key := range loginKeys(place) {
		if h := f.helpers[key]; h != "" {
			return h
		}
	}
	if strings.Contains(place, "/") {
		return "" // helpers know hosts only
	}
	return f.store
}

func (f *authFile) put(key string, e authEntry) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	f.auths[key] = raw
	return f.write()
}

func (f *authFile) write() error {
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	auths, err := json.Marshal(f.auths)
	if err != nil {
		return err
	}
	f.keys["auths"] = auths
	raw, err := json.MarshalIndent(f.keys, "", "\t")
	if err != nil {
		return err
	}
	path := f.path
	// A link stays a link: people keep these files elsewhere.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("auth file: %w", err)
	}
	// renameio.WriteFile would keep the mode of a file that is there.
	out, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("auth file: %w", err)
	}
	defer out.Cleanup() // nothing to do once the file is in place
	if _, err := out.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("auth file: %w", err)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("auth file: %w", err)
	}
	return nil
}

// Ping asks the registry at host whether the credentials of client are good:
// GET /v2/, with a token if it wants one. It returns an error matching
// [oci.ErrDenied] if they are not. A registry that lets everybody in can't say.
func Ping(ctx context.Context, client *http.Client, host string, plainHTTP bool) error {
	u := &url.URL{Scheme: "https", Host: wireHost(host), Path: "/v2/"}
	if plainHTTP {
		u.Scheme = "http"
	}
	req, err := newGet(ctx, u)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Clean(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ResponseError(resp)
	}
	return nil
}
