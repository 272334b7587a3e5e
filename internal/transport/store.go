package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/quaymaster/quaymaster/oci"
)

// Paths say where auth files are. The command line fills them in from flags
// and environment; "" leaves a place out.
type Paths struct {
	AuthFile         string // --authfile
	RegistryAuthFile string // REGISTRY_AUTH_FILE
	RuntimeDir       string // XDG_RUNTIME_DIR: containers/auth.json in it
	DockerConfig     string // DOCKER_CONFIG, a folder: config.json in it
	Home             string // HOME: .docker/config.json in it, unless DockerConfig is set
}

// Files gives the auth files in the order they are looked into. They need not
// exist, except for what --authfile named.
func (p Paths) Files() []string {
	var files []string
	for _, f := range []string{p.AuthFile, p.RegistryAuthFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	if p.RuntimeDir != "" {
		files = append(files, filepath.Join(p.RuntimeDir, "containers", "auth.json"))
	}
	switch {
	case p.DockerConfig != "":
		files = append(files, filepath.Join(p.DockerConfig, "config.json"))
	case p.Home != "":
		files = append(files, filepath.Join(p.Home, ".docker", "config.json"))
	}
	return files
}

// LoginFile gives the file that a login is written to: the one that is named,
// else the first that exists, else docker's. "" means that there is no place.
func (p Paths) LoginFile() string {
	if p.AuthFile != "" {
		return p.AuthFile
	}
	if p.RegistryAuthFile != "" {
		return p.RegistryAuthFile
	}
	last := ""
	for _, f := range p.Files() {
		if _, err := os.Stat(f); err == nil {
			return f
		}
		last = f
	}
	return last
}

// A Store finds logins in auth files. Its Credential method is a
// [CredentialFunc]. It is safe for concurrent use; files are read once.
type Store struct {
	paths Paths
	mu    sync.Mutex
	files []*authFile // nil until read
	err   error
	asked map[helperKey]helped
}

type helperKey struct{ helper, server string }

type helped struct {
	cred Credential
	at   time.Time
}

// helperTime is how long a helper's answer holds. Those of cloud registries
// change every few hours.
const helperTime = 30 * time.Minute

// NewStore makes a store over the files of p. Nothing is read yet.
func NewStore(p Paths) *Store { return &Store{paths: p, asked: map[helperKey]helped{}} }

// Credential gives the login for repository at host: the longest key of
// host/a/b, host/a, host within the first file that has one. Keys match
// exactly. Where a file names a credential helper it is asked.
//
// It returns an error matching [oci.ErrUsage] if a file is malformed, or names
// a helper that is not installed.
func (s *Store) Credential(ctx context.Context, host, repository string) (Credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return Credential{}, err
	}
	for _, f := range s.files {
		c, err := s.find(ctx, f, host, repository)
		if err != nil || !c.IsZero() {
			return c, err
		}
	}
	return Credential{}, nil
}

func (s *Store) load() error {
	if s.files != nil || s.err != nil {
		return s.err
	}
	files := []*authFile{}
	for _, path := range s.paths.Files() {
		f, err := openAuthFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			if path == s.paths.AuthFile {
				s.err = oci.Usage("auth file " + path + " does not exist")
				return s.err
			}
			continue
		}
		if err != nil {
			s.err = err
			return err
		}
		files = append(files, f)
	}
	s.files = files
	return nil
}

func (s *Store) find(ctx context.Context, f *authFile, host, repository string) (Credential, error) {
	for _, key := range append(lookupKeys(host, repository), oldKeys(host)...) {
		if helper := f.helpers[key]; helper != "" {
			if c, err := s.ask(ctx, f, helper, key); err != nil || !c.IsZero() {
				return c, err
			}
		}
		if c, err := f.entry(key); err != nil || !c.IsZero() {
			return c, err
		}
	}
	if f.store == "" {
		return Credential{}, nil
	}
	return s.ask(ctx, f, f.store, loginKeys(host)[0])
}

func (s *Store) ask(ctx context.Context, f *authFile, helper, server string) (Credential, error) {
	key := helperKey{helper, server}
	if h, ok := s.asked[key]; ok && time.Since(h.at) < helperTime {
		return h.cred, nil
	}
	native, err := openHelper(f, helper)
	if err != nil {
		return Credential{}, err
	}
	got, err := native.Get(ctx, server)
	if err != nil {
		return Credential{}, helperError(f, helper, err)
	}
	c := Credential{Username: got.Username, Password: got.Password, IdentityToken: got.RefreshToken, RegistryToken: got.AccessToken}
	s.asked[key] = helped{c, time.Now()}
	return c, nil
}

// Names go into a command's name, so they may be nothing but this.
var helperRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func openHelper(f *authFile, name string) (credentials.Store, error) {
	if !helperRE.MatchString(name) {
		return nil, oci.Usage(fmt.Sprintf("auth file %s: %q is no name of a credential helper: letters, digits and . _ - only", f.path, Text(name, 60)))
	}
	return credentials.NewNativeStore(name), nil
}

func helperError(f *authFile, name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return oci.Usage(fmt.Sprintf("auth file %s names the credential helper docker-credential-%s, which is not installed", f.path, name))
	}
	return fmt.Errorf("credential helper docker-credential-%s: %s", name, oneLine(err.Error(), 200))
}

func native(c Credential) auth.Credential {
	return auth.Credential{Username: c.Username, Password: c.Password, RefreshToken: c.IdentityToken, AccessToken: c.RegistryToken}
}
