package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

// distribution makes a registry that keeps its content in dir. htpasswd is a
// file of logins, "" lets everybody in.
func distribution(ctx context.Context, dir, htpasswd string) http.Handler {
	logrus.SetOutput(io.Discard)
	cfg := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem":  {"rootdirectory": dir},
		"delete":      {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}}
	cfg.HTTP.Secret = "of no one"
	cfg.Catalog.MaxEntries = 1000
	cfg.Log.Level = "panic"
	cfg.Log.AccessLog.Disabled = true
	if htpasswd != "" {
		cfg.Auth = configuration.Auth{"htpasswd": {"realm": "e2e", "path": htpasswd}}
	}
	return handlers.NewApp(ctx, cfg)
}

// A far is a registry in this process.
type far struct {
	*httptest.Server
	host string
}

// startRegistry starts an empty registry in this process. wrap, if not nil,
// stands in front of it.
func startRegistry(t testing.TB, wrap func(http.Handler) http.Handler) far {
	t.Helper()
	return serve(t, distribution(t.Context(), t.TempDir(), ""), wrap)
}

// startPrivate starts an empty registry that asks for a login.
func startPrivate(t testing.TB, user, password string) far {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, distribution(t.Context(), t.TempDir(), file), nil)
}

func serve(t testing.TB, h http.Handler, wrap func(http.Handler) http.Handler) far {
	if wrap != nil {
		h = wrap(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return far{s, strings.TrimPrefix(s.URL, "http://")}
}

// spawnRegistry starts a registry over dir in a process of its own, so that its
// memory is not this one's, and gives its host:port. It ends with the test.
func spawnRegistry(t testing.TB, dir string) (host string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, dir)
	cmd.Env = append(os.Environ(), roleEnv+"=registry")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which is the child's sign to end
		if err := cmd.Wait(); err != nil {
			t.Errorf("the registry ended with %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the registry says nothing: %v", err)
	}
	return strings.TrimSpace(line)
}

// serveRegistry is the child's side of spawnRegistry. It ends when its standard
// input does, so also when the tests are killed.
func serveRegistry(args []string) error {
	if len(args) != 1 {
		return errors.New("it needs a folder")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: distribution(context.Background(), args[0], "")}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = s.Close()
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
