package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

func (a *app) loginCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "login HOST --username USER --password-stdin",
		Short: "Check a registry login and keep it",
		Long: `Login asks HOST whether it takes the user and password, and keeps them in the auth
file: --authfile, else REGISTRY_AUTH_FILE, else containers' auth.json where
XDG_RUNTIME_DIR is set, else docker's config.json. A credential helper that the
file names is used.`,
		Example: `  quaymaster login quay.io --username 'myorg+robot' --password-stdin < token`,
		Args:    args("HOST"),
		RunE:    run(func(ctx context.Context, _ *cobra.Command, args []string) error { return a.login(ctx, args[0]) }),
	}
}

func (a *app) login(ctx context.Context, host string) error {
	if err := checkHost(host); err != nil {
		return err
	}
	if err := a.readStdin(); err != nil {
		return err
	}
	if a.creds.username == "" || a.creds.password == "" {
		return oci.Usage("login needs --username and --password-stdin")
	}
	cred := transport.Credential{Username: a.creds.username, Password: a.creds.password}
	t, plain, err := a.transport(source, backend.URI{}, transport.Fixed(host, cred.Username, cred.Password), nil)
	if err != nil {
		return err
	}
	defer t.CloseIdle()
	if err := transport.Ping(ctx, t.Client(), host, plain); err != nil {
		return oci.Wrap(err, "log in to", host, oci.Descriptor{})
	}
	file, err := a.loginFile()
	if err != nil {
		return err
	}
	if err := transport.SaveLogin(ctx, file, host, cred); err != nil {
		return oci.Wrap(err, "keep login of", host, oci.Descriptor{})
	}
	a.sayf("Login to %s succeeded; kept in %s", host, file)
	return nil
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "logout HOST",
		Short: "Forget a registry login",
		Args:  args("HOST"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if err := checkHost(args[0]); err != nil {
				return err
			}
			file, err := a.loginFile()
			if err != nil {
				return err
			}
			if err := transport.RemoveLogin(ctx, file, args[0]); err != nil {
				return oci.Wrap(err, "forget login of", args[0], oci.Descriptor{})
			}
			a.sayf("Login to %s removed from %s", args[0], file)
			return nil
		}),
	}
}

func checkHost(host string) error {
	if strings.Contains(host, "@") { // it may hold a password, so it isn't repeated
		return oci.Usage("login and logout take a host without user and password; write --username USER --password-stdin")
	}
	if !oci.ValidHost(host) {
		return oci.Usage(fmt.Sprintf("%q is no registry host; write host or host:port", host))
	}
	return nil
}

// loginFile gives the file that logins are kept in.
func (a *app) loginFile() (string, error) {
	file := a.authPaths().LoginFile()
	if file == "" {
		return "", oci.Usage("there is no place to keep a login: neither HOME nor XDG_RUNTIME_DIR is set; name one with --authfile")
	}
	return file, nil
}

// authPaths gives where logins may stand, from flags and environment.
func (a *app) authPaths() transport.Paths {
	return transport.Paths{
		AuthFile:         a.creds.authfile,
		RegistryAuthFile: a.getenv("REGISTRY_AUTH_FILE"),
		RuntimeDir:       a.getenv("XDG_RUNTIME_DIR"),
		DockerConfig:     a.getenv("DOCKER_CONFIG"),
		Home:             a.getenv("HOME"),
	}
}
