package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
	"github.com/quaymaster/quaymaster/quay"
)

// publishFlags are those that the verbs which move tags have in common.
type publishFlags struct {
	dryRun     bool
	journal    string
	events     string
	digestToo  bool   // --allow-digest-delete
	rollback   string // "" where the verb undoes nothing by itself
	scope      string
	undoLimit  time.Duration
	guardOld   bool
	companions bool
}

// add adds those of every verb.
func (f *publishFlags) add(p *pflag.FlagSet) {
	p.BoolVar(&f.dryRun, "dry-run", false, "print what would be done; change nothing")
	p.StringVar(&f.journal, "journal", "", "keep what undoes the run in `FILE`, a new one (default a file of its own in "+journalFolder("$XDG_STATE_HOME", "")+")")
	p.StringVar(&f.events, "events", "", "write what happens to `FILE` as JSON lines; - is stdout")
	p.BoolVar(&f.digestToo, "allow-digest-delete", false, "delete a tag by its digest where the registry can do no other and no other tag has the digest")
}

// addUndo adds those of the verbs that undo what they did if they fail.
func (f *publishFlags) addUndo(p *pflag.FlagSet) {
	p.StringVar(&f.rollback, "rollback", string(publish.Auto), "auto undoes the changes of a run that fails or is interrupted; never leaves them")
	p.StringVar(&f.scope, "rollback-scope", string(publish.All), "all undoes the whole run, item only the items that failed")
	p.DurationVar(&f.undoLimit, "rollback-timeout", 5*time.Minute, "`TIME` that undoing may take")
	p.BoolVar(&f.guardOld, "guard-old", false, "keep what tags meant under tags of their own until the run has succeeded")
}

// addCompanions adds that of the verbs that copy into other repositories.
func (f *publishFlags) addCompanions(p *pflag.FlagSet) {
	p.BoolVar(&f.companions, "companions", true, "take signatures, attestations and referrers along into other repositories")
}

// check refuses values that no verb takes.
func (f *publishFlags) check() error {
	switch {
	case f.rollback != "" && !slices.Contains([]string{"auto", "never"}, f.rollback):
		return oci.Usage("--rollback takes auto or never, not " + f.rollback)
	case f.scope != "" && !slices.Contains([]string{"all", "item"}, f.scope):
		return oci.Usage("--rollback-scope takes all or item, not " + f.scope)
	case f.undoLimit < 0:
		return oci.Usage("--rollback-timeout takes a time above 0, for example 5m")
	}
	return nil
}

// An office is a publisher with what is to be closed behind it.
type office struct {
	*publish.Publisher
	app        *app
	transports []*transport.Transport
}

func (o *office) close() {
	for _, t := range o.transports {
		t.CloseIdle()
	}
}

// publisher makes a Publisher that reads sources and changes dests, for which it
// works out whose credentials are whose.
func (a *app) publisher(sources, dests []oci.Ref, f *publishFlags) (*office, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if err := a.readStdin(); err != nil {
		return nil, err
	}
	to := &side{name: destination, hosts: hostsOf(dests)}
	from := to
	sides := []*side{to}
	if len(sources) > 0 {
		from = &side{name: source, hosts: hostsOf(sources)}
		sides = append(sides, from)
		if a.creds.srcCreds == "" && slices.Equal(from.hosts, to.hosts) {
			from = to // who writes there reads there
		}
	}
	if err := errors.Join(a.oneHost(sides...), a.oneEach(from, to)); err != nil {
		return nil, err
	}
	o := &office{app: a}
	var other *side
	if from != to {
		other = from
	}
	dest, err := o.env(to, other)
	if err != nil {
		return nil, err
	}
	if dest.APIToken, dest.QuayHost, err = a.tokenHost(to.hosts, dest.APIToken); err != nil {
		return nil, err
	}
	src := dest
	if from != to {
		if src, err = o.env(from, to); err != nil {
			return nil, err
		}
	}
	o.Publisher = &publish.Publisher{
		Source: src, Dest: dest,
		Images: a.work.images, Blobs: a.work.blobs,
		DryRun:   f.dryRun,
		Rollback: publish.Policy(f.rollback), Scope: publish.Scope(f.scope), UndoLimit: f.undoLimit,
		GuardOld: f.guardOld, AllowDigestDelete: f.digestToo, Companions: f.companions,
		Tool: "quaymaster " + version(),
		Warn: a.warnf, Log: a.log,
	}
	return o, nil
}

// env is what the registries of one side are spoken to with.
func (o *office) env(one, other *side) (backend.Env, error) {
	a := o.app
	creds, err := a.credentials(one)
	if err != nil {
		return backend.Env{}, err
	}
	var peer *transport.Transport
	if len(o.transports) > 0 {
		peer = o.transports[0]
	}
	t, plain, err := a.transport(one.name, backend.URI{}, creds, peer)
	if err != nil {
		return backend.Env{}, err
	}
	o.transports = append(o.transports, t)
	return backend.Env{
		HTTP: t.Client(), PlainHTTP: plain, APIToken: a.apiToken(one, other), QuayHost: a.disc.quayHost,
		Parallel: a.work.blobs, Log: a.log, Warn: a.warnf,
	}, nil
}

// oneEach refuses --src-creds and --dest-creds where their side has several
// registries: they would be shown to all of them.
func (a *app) oneEach(from, to *side) error {
	for _, s := range []struct {
		side        *side
		flag, creds string
	}{{from, "--src-creds", a.creds.srcCreds}, {to, "--dest-creds", a.creds.destCreds}} {
		if s.creds != "" && len(s.side.hosts) > 1 {
			return oci.Usage(fmt.Sprintf("%s is for one registry, but this run speaks to %s; use quaymaster login HOST, or an auth file", s.flag, strings.Join(s.side.hosts, " and ")))
		}
	}
	return nil
}

// tokenHost gives the API token and the Quay that it is for: the one that --quay-host
// names, or else the only host there is. With several that can't be known, unless one
// is quay.io. A token for a Quay that isn't spoken to is none.
func (a *app) tokenHost(hosts []string, token string) (string, string, error) {
	named := strings.TrimSuffix(a.disc.quayHost, "/")
	switch {
	case token == "" || slices.Contains(hosts, named):
		return token, named, nil
	case len(hosts) == 1 && (named == "" || a.creds.destAPIToken != ""):
		return token, hosts[0], nil
	case named != "":
		return "", named, nil
	case slices.Contains(hosts, quay.DefaultHost):
		return token, quay.DefaultHost, nil
	}
	return "", "", oci.Usage(fmt.Sprintf("the API token is for one Quay, but this run speaks to %s; name it: --quay-host", strings.Join(hosts, " and ")))
}

// hostsOf gives the registries of refs, each once, sorted.
func hostsOf(refs []oci.Ref) []string {
	var hosts []string
	for _, r := range refs {
		hosts = append(hosts, r.Registry)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// references reads plain references; registry:// or docker:// in front of them is
// accepted.
func references(args []string) ([]oci.Ref, error) {
	var refs []oci.Ref
	for _, arg := range args {
		if strings.Contains(arg, "{") { // --guard-tag needs no value, so it takes none that stands apart
			return nil, oci.Usage(fmt.Sprintf("%q is no reference; a template of guard tags is written --guard-tag=%s", arg, arg))
		}
		scheme, rest, found := strings.Cut(arg, "://")
		switch {
		case !found:
			rest = arg
		case scheme != "registry" && scheme != "docker": // the latter is skopeo's
			return nil, oci.Usage(fmt.Sprintf("%s:// is no registry's: images are published from HOST/REPOSITORY:TAG to HOST/REPOSITORY:TAG; quaymaster process brings them there", scheme))
		}
		ref, err := oci.ParseRef(rest, "")
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// tagged is references with latest where neither tag nor digest is named.
func tagged(args []string) ([]oci.Ref, error) {
	refs, err := references(args)
	for i := range refs {
		if refs[i].Tag == "" && refs[i].Digest == "" {
			refs[i].Tag = "latest"
		}
	}
	return refs, err
}

// journalFolder is where journals are kept that nobody chose a place for.
func journalFolder(state, home string) string {
	return filepath.Join(cmp.Or(state, filepath.Join(home, ".local", "state")), "quaymaster", "journals")
}

// newJournal gives the path of this run's journal, and sees to it that it can be
// made. A dry run has none.
func (a *app) newJournal(f *publishFlags, command string) (string, error) {
	if f.dryRun || f.journal != "" {
		return f.journal, nil
	}
	state, home := a.getenv("XDG_STATE_HOME"), a.getenv("HOME")
	if state == "" && home == "" {
		return "", oci.Usage("there is no place for the journal, which can undo this: --journal FILE")
	}
	dir := journalFolder(state, home)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", oci.Usage(fmt.Sprintf("the journal, which can undo this, can't be kept: %v; --journal FILE", err))
	}
	name := fmt.Sprintf("%s-%s-%d.jsonl", time.Now().UTC().Format("20060102T150405.000Z"), command, os.Getpid())
	return filepath.Join(dir, name), nil
}
