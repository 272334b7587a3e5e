package cli

import (
	"context"
	"fmt"
	"runtime"
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
	user, password             string // of the destination
	sourceUser, sourcePassword string
	repositories, org          string
	remoteExec, containerExec  bool
	ignoredText                string
	ignoredNumber              int
	ignoredYes                 bool
}

func (f *oldPublish) addUser(p *pflag.FlagSet, prefix string) {
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
	if len(f.references) == 0 && f.user == "" {
		return args, nil // nothing of the old
	}
	return append(append([]string{}, args...), f.references...), f.logins(a, nil, nil)
}

// logins turns the old flags for users into those of here. Where source and
// destination are one registry, its user is for both.
func (f *oldPublish) logins(a *app, sources, dests []oci.Ref) error {
	if (f.user == "") != (f.password == "") || (f.sourceUser == "") != (f.sourcePassword == "") {
		return oci.Usage("a user needs a password and a password a user: --quay-user with QUAY_PASSWORD, --source-quay-user with SOURCE_QUAY_PASSWORD")
	}
	if f.user == "" && f.sourceUser == "" {
		return nil
	}
	a.creds.username, a.creds.password = "", "" // QUAY_PASSWORD is that of --quay-user
	if f.sourceUser != "" {
		a.creds.srcCreds = f.sourceUser + ":" + f.sourcePassword
	}
	switch from, to := hostsOf(sources), hostsOf(dests); {
	case f.user == "":
	case len(to) == 0 || f.sourceUser == "" && len(from) == 1 && len(to) == 1 && from[0] == to[0]:
		a.creds.username, a.creds.password = f.user, f.password
	default:
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
	return a.oldPublishCmd("tag-image", "tag", func(p *pflag.FlagSet) {
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
		return a.tag(ctx, f.sourceRef, f.destRefs, defaultRelease())
	})
}

// defaultRelease are the flags of tag and merge as they are unset.
func defaultRelease() *releaseFlags {
	var f releaseFlags
	f.add(pflag.NewFlagSet("", pflag.ContinueOnError))
	return &f
}

func (a *app) mergeListCmd() *cobra.Command {
	var f oldPublish
	return a.oldPublishCmd("merge-manifest-list", "merge", func(p *pflag.FlagSet) {
		p.StringVar(&f.sourceRef, "source-ref", "", "the list to take platforms of")
		p.StringVar(&f.destRef, "dest-ref", "", "the list that gets them")
		f.addUser(p, "dest-")
		f.addSource(p)
	}, func(ctx context.Context) error {
		if f.sourceRef == "" || f.destRef == "" {
			return oci.Usage("merge-manifest-list needs --source-ref and --dest-ref")
		}
		if f.user == "" || f.password == "" || f.sourceUser == "" || f.sourcePassword == "" {
			return oci.Usage("merge-manifest-list needs --source-quay-user and --dest-quay-user, with SOURCE_QUAY_PASSWORD and DEST_QUAY_PASSWORD")
		}
		refs, err := tagged([]string{f.sourceRef, f.destRef})
		if err != nil {
			return err
		}
		if err := f.logins(a, refs[:1], refs[1:]); err != nil {
			return err
		}
		return a.merge(ctx, f.sourceRef, f.destRef, defaultRelease(), &listFlags{})
	})
}

func (a *app) oldRepoCmd(verb string) *cobra.Command {
	var f oldPublish
	return a.oldPublishCmd(verb+"-repo", "repo "+verb, func(p *pflag.FlagSet) {
		p.StringVar(&f.repositories, "repositories", "", "external names, with commas between them")
		p.StringVar(&f.org, "quay-org", "", "the organisation that has them")
		f.addUser(p, "")
		f.ignore(p, "signers", "signer-configs", "pyxis-server", "pyxis-krb-principal", "pyxis-krb-ktfile", "pyxis-ssl-crtfile", "pyxis-ssl-keyfile")
	}, func(ctx context.Context) error {
		names, err := f.names(a)
		if err != nil {
			return err
		}
		if err := f.logins(a, nil, nil); err != nil {
			return err
		}
		return a.repositories(ctx, verb, names, &repoFlags{yes: true}) // a job has nobody to ask
	})
}

// names gives the references of --repositories: HOST/ORG/NAME, flattened.
func (f *oldPublish) names(a *app) ([]string, error) {
	if f.org == "" || f.repositories == "" {
		return nil, oci.Usage("it needs --repositories and --quay-org")
	}
	if a.creds.apiToken == "" {
		return nil, oci.Usage("it needs --quay-api-token, or QUAY_API_TOKEN")
	}
	host := strings.TrimSuffix(a.disc.quayHost, "/")
	if host == "" {
		host = quay.DefaultHost
	}
	var refs []string
	for name := range strings.SplitSeq(f.repositories, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return nil, oci.Usage(fmt.Sprintf("--repositories %q holds an empty name", f.repositories))
		}
		flat, err := publish.FlattenName(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, host+"/"+f.org+"/"+flat)
	}
	return refs, nil
}
