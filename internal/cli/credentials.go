package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// credFlags are the secrets of a run and where they may be found.
type credFlags struct {
	username, password  string
	passwordStdin       bool
	srcCreds, destCreds string
	authfile            string
	apiToken            string
	destAPIToken        string
}

func (f *credFlags) add(p *pflag.FlagSet) {
	p.StringVar(&f.username, "username", "", "user of the one registry host of the command")
	p.StringVar(&f.password, "password", "", "password of --username; better --password-stdin or QUAYMASTER_PASSWORD")
	p.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password of --username from stdin")
	p.StringVar(&f.srcCreds, "src-creds", "", "`USER[:PASSWORD]` of the source registry (password also SOURCE_QUAY_PASSWORD)")
	p.StringVar(&f.destCreds, "dest-creds", "", "`USER[:PASSWORD]` of the destination registry (password also DEST_QUAY_PASSWORD)")
	p.StringVar(&f.authfile, "authfile", "", "`FILE` of credentials (default: containers' auth.json, then docker's config.json)")
	p.StringVar(&f.apiToken, "quay-api-token", "", "OAuth application token for the API of the source's Quay; better QUAY_API_TOKEN")
	p.StringVar(&f.destAPIToken, "dest-quay-api-token", "", "the same for the destination's Quay")
}

// oauthUser is the user name that stands for an OAuth token in Quay's registry.
const oauthUser = "$oauthtoken"

// warn says which secrets on the command line, in flags or URIs, other users of
// the machine can read.
func (f *credFlags) warn(cmd *cobra.Command, args []string, talk io.Writer) {
	var names []string
	for _, name := range []string{
		"password", "quay-api-token", "dest-quay-api-token",
		"quay-password", "source-quay-password", "dest-quay-password", "ssh-password", "registry-password",
	} {
		if cmd.Flags().Changed(name) {
			names = append(names, "--"+name)
		}
	}
	for name, v := range map[string]string{"src-creds": f.srcCreds, "dest-creds": f.destCreds} {
		if cmd.Flags().Changed(name) && strings.Contains(v, ":") {
			names = append(names, "--"+name)
		}
	}
	slices.Sort(names)
	for _, arg := range args {
		if u, err := backend.ParseURI(arg); err == nil && (u.Secret != "" || u.Option("password") != "" || u.Option("token") != "") {
			names = append(names, "the secret in "+oneLine(u.String()))
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(talk, "Warning: %s on the command line can be read by every user of this machine; use the environment, --password-stdin or an auth file\n", strings.Join(names, ", "))
	}
}

// readStdin takes the password from stdin where that is asked for.
func (a *app) readStdin() error {
	if !a.creds.passwordStdin {
		return nil
	}
	if a.creds.password != "" {
		return oci.Usage("--password and --password-stdin exclude each other")
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, 64<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return oci.Wrap(err, "read password", "stdin", oci.Descriptor{})
	}
	if a.creds.password = strings.TrimRight(line, "\r\n"); a.creds.password == "" {
		return oci.Usage("--password-stdin: stdin holds no password")
	}
	return nil
}

// A side is one end of a run while its credentials are worked out.
type side struct {
	name  string
	uri   backend.URI
	hosts []string // registry hosts that it speaks to
}

// credentials gives the lookup of one side: what was said for it, for its
// hosts alone; else the auth files. hosts is read when a request is made, since
// a list's hosts are known only after it was read.
func (a *app) credentials(s *side) (transport.CredentialFunc, error) {
	files := transport.NewStore(a.authPaths())
	said, err := a.said(s)
	if err != nil {
		return nil, err
	}
	return transport.First(func(ctx context.Context, host, repository string) (transport.Credential, error) {
		if said.Username == "" {
			return transport.Credential{}, nil
		}
		for _, own := range s.hosts {
			if c, err := transport.Fixed(own, said.Username, said.Password)(ctx, host, repository); err != nil || !c.IsZero() {
				return c, err
			}
		}
		return transport.Credential{}, nil
	}, files.Credential), nil
}

// said is the user and password that flags or URI give for side s.
func (a *app) said(s *side) (transport.Credential, error) {
	if s.uri.User != "" {
		return transport.Credential{Username: s.uri.User, Password: s.uri.Secret}, nil
	}
	if user := s.uri.Option("username"); user != "" {
		return transport.Credential{Username: user, Password: s.uri.Option("password")}, nil
	}
	flag, creds, env := "--src-creds", a.creds.srcCreds, "SOURCE_QUAY_PASSWORD"
	if s.name == destination {
		flag, creds, env = "--dest-creds", a.creds.destCreds, "DEST_QUAY_PASSWORD"
	}
	if creds != "" {
		user, password, ok := strings.Cut(creds, ":")
		if !ok {
			password = a.getenv(env)
		}
		if user == "" || password == "" {
			return transport.Credential{}, oci.Usage(fmt.Sprintf("%s: write USER:PASSWORD, or USER with the password in %s", flag, env))
		}
		return transport.Credential{Username: user, Password: password}, nil
	}
	if a.creds.username != "" && a.creds.password == "" {
		return transport.Credential{}, oci.Usage("--username needs a password: --password-stdin or QUAYMASTER_PASSWORD")
	}
	return transport.Credential{Username: a.creds.username, Password: a.creds.password}, nil
}

// oneHost refuses --username and --password where the run speaks to several
// registries and nothing says whose they are.
func (a *app) oneHost(sides ...*side) error {
	if a.creds.username == "" {
		return nil
	}
	var hosts []string
	for _, s := range sides {
		ownCreds := s.uri.User != "" || s.uri.Option("username") != "" ||
			s.name == source && a.creds.srcCreds != "" || s.name == destination && a.creds.destCreds != ""
		if !ownCreds {
			hosts = append(hosts, s.hosts...)
		}
	}
	slices.Sort(hosts)
	if hosts = slices.Compact(hosts); len(hosts) > 1 {
		return oci.Usage(fmt.Sprintf("--username and --password are for one registry, but this run speaks to %s; use --src-creds and --dest-creds, or an auth file", strings.Join(hosts, " and ")))
	}
	return nil
}

// apiToken gives the Quay API token of side s; other is the far side, nil if
// there is none. A password is a token only where no user is named, or Quay's
// own name for tokens. The destination gets the source's token only if no other
// registry could be meant.
func (a *app) apiToken(s, other *side) string {
	token := a.creds.apiToken
	if token == "" && (a.creds.username == "" || a.creds.username == oauthUser) {
		token = a.creds.password
	}
	if s.name == source {
		return token
	}
	if a.creds.destAPIToken != "" {
		return a.creds.destAPIToken
	}
	if other == nil || len(other.hosts) == 0 || slices.Equal(other.hosts, s.hosts) {
		return token
	}
	return ""
}
