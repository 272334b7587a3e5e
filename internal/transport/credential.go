package transport

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
)

// A Credential is what a registry or its token service is shown. The zero
// value is anonymous.
type Credential struct {
	Username string
	Password string
	// IdentityToken is an OAuth 2 refresh token, shown to the token service in
	// place of name and password.
	IdentityToken string
	// RegistryToken is a bearer token, shown to the registry as it is.
	RegistryToken string
}

// IsZero reports whether c is anonymous.
func (c Credential) IsZero() bool { return c == Credential{} }

func (c Credential) basic() string {
	if c.Username == "" && c.Password == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// secrets are the strings that no text may show.
func (c Credential) secrets() []string {
	s := []string{c.Password, c.IdentityToken, c.RegistryToken}
	if b := c.basic(); b != "" {
		s = append(s, b[len("Basic "):])
	}
	return s
}

// Format hides the secrets from every verb of fmt.
func (c Credential) Format(f fmt.State, _ rune) {
	if c.IsZero() {
		fmt.Fprint(f, "anonymous")
		return
	}
	fmt.Fprintf(f, "%s:***", Text(c.Username, 100))
}

// LogValue hides the secrets from slog.
func (c Credential) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// A CredentialFunc gives the credential for a repository ("kolla/nova-api", ""
// for the registry itself) of host[:port]. The zero Credential is no error.
// docker.io is registry-1.docker.io here, as on the wire.
type CredentialFunc func(ctx context.Context, host, repository string) (Credential, error)

// Fixed gives name and password for one host, and nothing for any other.
func Fixed(host, username, password string) CredentialFunc {
	host = wireHost(host)
	return func(_ context.Context, h, _ string) (Credential, error) {
		if wireHost(h) != host {
			return Credential{}, nil
		}
		return Credential{Username: username, Password: password}, nil
	}
}

// First gives what the first of funcs gives that has anything to give.
func First(funcs ...CredentialFunc) CredentialFunc {
	return func(ctx context.Context, host, repository string) (Credential, error) {
		for _, f := range funcs {
			if f == nil {
				continue
			}
			if c, err := f(ctx, host, repository); err != nil || !c.IsZero() {
				return c, err
			}
		}
		return Credential{}, nil
	}
}

// wireHost gives the host that requests to a registry go to.
func wireHost(host string) string {
	if host == "docker.io" || host == "index.docker.io" {
		return "registry-1.docker.io"
	}
	return host
}
