package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
	"github.com/quaymaster/quaymaster/quay"
)

// oldPublish are the flags of pubtools-quay's programs, which work here under the
// names that those have: a job file moves over by changing the program's name.
type oldPublish struct {
	sourceRef, destRef         string
	destRefs, references       []string
	allArch                    bool
	prefix                     string // of the flags for user and password
	user, password             string // of the destination
	sourceUser, sourcePassword string
	repositories, org          string
	remoteExec, containerExec  bool
	ignoredText                string
	ignoredNumber              int
	ignoredYes                 bool
	flags                      *pflag.FlagSet
}

func (f *oldPublish) addUser(p *pflag.FlagSet, prefix string) {
	f.flags, f.prefix = p, prefix
	p.StringVar(&f.user, prefix+"quay-user", "", "user of the destination's registry")
	p.StringVar(&f.password, prefix+"quay-password", "", "its password; better in the environment")
}

func (f *oldPublish) addSource(p *pflag.FlagSet) {
	p.StringVar(&f.sourceUser, "source-quay-user", "", "user of the source's registry")
	p.StringVar(&f.sourcePassword, "source-quay-password", "", "its password; better in the environment")
}

// ignore takes flags that mean nothing here: what they were about is done otherwise.
func (f *oldPublish) ignore(p *pflag.FlagSet, names ...string) {
	for _, name := range names {
		p.StringVar(&f.ignoredText, name, "", "accepted, and of no account")
		_ = p.MarkHidden(name) // it is there
	}
}

// addUntag adds to untag what pubtools-quay-untag has besides.
func (f *oldPublish) addUntag(p *pflag.FlagSet) {
	p.StringArrayVar(&f.references, "reference", nil, "a reference to untag, as pubtools-quay has it")
	f.addUser(p, "")
	for _, name := range []string{"reference", "quay-user", "quay-password"} {
		_ = p.MarkHidden(name) // it is there
	}
}

// untag adds what --reference names to args, and settles the login.
func (f *oldPublish) untag(a *app, args []string) ([]string, error) {
	switch {
	case len(f.references) == 0 && f.user == "":
		return args, nil // nothing of the old
	case len(f.references) > 0 && a.creds.apiToken == "":
		return nil, oci.Usage("untag with --reference needs --quay-api-token, or QUAY_API_TOKEN; quaymaster untag REFERENCE does without")
	}
	return append(append([]string{}, args...), f.references...), f.logins(a, nil, nil)
}

// halves refuses a user without a password, and a password without a user that
// doesn't come from the environment, which job files fill for all programs.
func (f *oldPublish) halves() error {
	for _, h := range []struct{ user, password, prefix string }{{f.user, f.password, f.prefix}, {f.sourceUser, f.sourcePassword, "source-"}} {
		flag := h.prefix + "quay-password"
		switch {
		case h.user != "" && h.password == "":
			return oci.Usage(fmt.Sprintf("--%squay-user needs a password: --%s or %s", h.prefix, flag, strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))))
		case h.user == "" && f.flags.Changed(flag):
			return oci.Usage(fmt.Sprintf("--%s needs a user: --%squay-user", flag, h.prefix))
		}
	}
	return nil
}

// logins turns the old flags for users into those of here. Where source and
// destination are one registry, its user is for both.
func (f *oldPublish) logins(a *app, sources, dests []oci.Ref) error {
	if err := f.halves(); err != nil {
		return err
	}
	if f.user == "" && a.creds.username == "" {
		a.creds.password = "" // QUAY_PASSWORD is that of --quay-user, and no API token
	}
	if f.sourceUser != "" {
		a.creds.srcCreds = f.sourceUser + ":" + f.sourcePassword
	}
	if f.user == "" {
		return nil
	}
	switch from, to := hostsOf(sources), hostsOf(dests); {
	case len(to) > 1:
		return oci.Usage(fmt.Sprintf("--%squay-user is for one registry, but this run speaks to %s; use quaymaster login HOST, or an auth file", f.prefix, strings.Join(to, " and ")))
	case len(to) == 0 || f.sourceUser == "" && slices.Equal(from, to):
		a.creds.username, a.creds.password = f.user, f.password
	default:
		a.creds.username, a.creds.password = "", ""
		a.creds.destCreds = f.user + ":" + f.password
	}
	return nil
}

// oldPublishCmds are the programs of pubtools-quay but untag, which is a verb here too.
func (a *app) oldPublishCmds() []*cobra.Command {
	return []*cobra.Command{a.tagImageCmd(), a.mergeListCmd(), a.oldRepoCmd("clear"), a.oldRepoCmd("remove")}
}

// old makes one of them.
func (a *app) oldPublishCmd(name, instead string, add func(p *pflag.FlagSet), do func(ctx context.Context) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: "pubtools-quay's program; write " + instead, Hidden: true, Args: args(),
		RunE: run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			a.sayf("%s works as pubtools-quay-%s does; the command of here is quaymaster %s", name, name, instead)
			return do(ctx)
		}),
	}
	add(cmd.Flags())
	return cmd
}

func (a *app) tagImageCmd() *cobra.Command {
	var f oldPublish
	var release releaseFlags
	return a.oldPublishCmd("tag-image", "tag", func(p *pflag.FlagSet) {
		release.add(p)
		p.StringVar(&f.sourceRef, "source-ref", "", "the image")
		p.StringArrayVar(&f.destRefs, "dest-ref", nil, "a reference that it gets; repeatable")
		p.BoolVar(&f.allArch, "all-arch", false, "take all platforms, not that of this machine alone")
		f.addUser(p, "")
		f.addSource(p)
		p.BoolVar(&f.remoteExec, "remote-exec", false, "not supported")
		p.BoolVar(&f.containerExec, "container-exec", false, "not supported")
		f.ignore(p, "source-quay-host", "ssh-remote-host", "ssh-username", "ssh-password", "ssh-key-filename", "container-image",
			"docker-url", "docker-timeout", "docker-cert-path", "registry-username", "registry-password")
		p.IntVar(&f.ignoredNumber, "ssh-remote-host-port", 22, "accepted, and of no account")
		p.BoolVar(&f.ignoredYes, "ssh-reject-unknown-host", false, "accepted, and of no account")
		p.BoolVar(&f.ignoredYes, "docker-verify-tls", false, "accepted, and of no account")
	}, func(ctx context.Context) error {
		for flag, set := range map[string]bool{"--remote-exec": f.remoteExec, "--container-exec": f.containerExec} {
			if set {
				return oci.Usage(flag + " is not supported: it was there to run skopeo elsewhere, and this program copies by itself. Leave it away, or run quaymaster where that was to run")
			}
		}
		if f.sourceRef == "" || len(f.destRefs) == 0 {
			return oci.Usage("tag-image needs --source-ref and --dest-ref")
		}
		refs, err := tagged(append([]string{f.sourceRef}, f.destRefs...))
		if err != nil {
			return err
		}
		if err := f.logins(a, refs[:1], refs[1:]); err != nil {
			return err
		}
		if !f.allArch {
			a.plat.platforms = []string{"linux/" + runtime.GOARCH}
		}
		return a.tag(ctx, f.sourceRef, f.destRefs, &release)
	})
}

func (a *app) mergeListCmd() *cobra.Command {
	var f oldPublish
	var release releaseFlags
	return a.oldPublishCmd("merge-manifest-list", "merge", func(p *pflag.FlagSet) {
		release.add(p)
		p.StringVar(&f.sourceRef, "source-ref", "", "the list to take platforms of")
		p.StringVar(&f.destRef, "dest-ref", "", "the list that gets them")
		f.addUser(p, "dest-")
		f.addSource(p)
	}, func(ctx context.Context) error {
		if f.sourceRef == "" || f.destRef == "" {
			return oci.Usage("merge-manifest-list needs --source-ref and --dest-ref")
		}
		if f.user == "" || f.sourceUser == "" {
			return oci.Usage("merge-manifest-list needs --source-quay-user and --dest-quay-user, with SOURCE_QUAY_PASSWORD and DEST_QUAY_PASSWORD")
		}
		refs, err := tagged([]string{f.sourceRef, f.destRef})
		if err != nil {
			return err
		}
		if err := f.logins(a, refs[:1], refs[1:]); err != nil {
			return err
		}
		return a.merge(ctx, f.sourceRef, f.destRef, &release, &listFlags{})
	})
}

func (a *app) oldRepoCmd(verb string) *cobra.Command {
	var f oldPublish
	repos := repoFlags{yes: true} // a job has nobody to ask
	return a.oldPublishCmd(verb+"-repo", "repo "+verb, func(p *pflag.FlagSet) {
		repos.add(p)
		p.StringVar(&f.repositories, "repositories", "", "external names, with commas between them")
		p.StringVar(&f.org, "quay-org", "", "the organisation that has them")
		f.addUser(p, "")
		f.ignore(p, "signers", "signer-configs", "pyxis-server", "pyxis-krb-principal", "pyxis-krb-ktfile", "pyxis-ssl-crtfile", "pyxis-ssl-keyfile")
	}, func(ctx context.Context) error {
		names, err := f.names(a, verb+"-repo")
		if err != nil {
			return err
		}
		if err := f.logins(a, nil, nil); err != nil {
			return err
		}
		return a.repositories(ctx, verb, names, &repos)
	})
}

// names gives the references of --repositories: HOST/ORG/NAME, flattened.
func (f *oldPublish) names(a *app, program string) ([]string, error) {
	if f.org == "" || f.repositories == "" {
		return nil, oci.Usage(program + " needs --repositories and --quay-org")
	}
	if a.creds.apiToken == "" {
		return nil, oci.Usage(program + " needs --quay-api-token, or QUAY_API_TOKEN")
	}
	host := cmp.Or(strings.TrimSuffix(a.disc.quayHost, "/"), quay.DefaultHost)
	var refs []string
	for name := range strings.SplitSeq(f.repositories, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return nil, oci.Usage(fmt.Sprintf("--repositories %q: a name is empty", f.repositories))
		}
		flat, err := publish.FlattenName(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, host+"/"+f.org+"/"+flat)
	}
	return refs, nil
}
