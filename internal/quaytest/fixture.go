package quaytest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// CreateUser makes a user who logs in with password; "" can't log in.
func (s *Server) CreateUser(name, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Namespaces[name] = &namespace{Name: name, Password: password}
}

// CreateOrg makes an organisation whose team of owners has these admins.
func (s *Server) CreateOrg(name string, admins ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.createOrg(name, admins)
}

func (s *Server) createOrg(name string, admins []string) {
	s.state.Namespaces[name] = &namespace{Name: name, Org: true, Teams: map[string]*team{"owners": {Role: "admin", Members: admins}}}
}

// AddTeam gives an organisation a team. Role is "member", "creator" or
// "admin"; members are users and robots ("ns+bot").
func (s *Server) AddTeam(org, name, role string, members ...string) error {
	return s.withNamespace(org, func(n *namespace) {
		if n.Teams == nil {
			n.Teams = map[string]*team{}
		}
		n.Teams[name] = &team{Role: role, Members: members}
	})
}

// DisableUser disables a user or organisation.
func (s *Server) DisableUser(name string) error {
	return s.withNamespace(name, func(n *namespace) { n.Disabled = true })
}

// SetQuota limits the bytes of a namespace, with [Options.QuotaManagement].
func (s *Server) SetQuota(ns string, limit int64) error {
	return s.withNamespace(ns, func(n *namespace) { n.Quota = limit })
}

// MirrorOrg makes org a mirror of another registry's organisation, where
// nothing can be created, with [Options.OrgMirror].
func (s *Server) MirrorOrg(org string) error {
	return s.withNamespace(org, func(n *namespace) { n.Mirrored = true })
}

// SetDefault gives a user or robot "read", "write" or "admin" on every
// repository that is made in ns from now on (Quay's default permissions).
func (s *Server) SetDefault(ns, grantee, as string) error {
	return s.withNamespace(ns, func(n *namespace) {
		if n.Defaults == nil {
			n.Defaults = map[string]role{}
		}
		n.Defaults[grantee] = roles[as]
	})
}

// Star marks a repository for user.
func (s *Server) Star(user, repo string) error {
	return s.withNamespace(user, func(n *namespace) {
		if n.Stars == nil {
			n.Stars = map[string]bool{}
		}
		n.Stars[repo] = true
	})
}

func (s *Server) withNamespace(name string, do func(*namespace)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.state.Namespaces[name]
	if n == nil {
		return fmt.Errorf("no namespace %q", name)
	}
	do(n)
	return nil
}

// AddToken gives an OAuth token of user with these scopes ("repo:read", …),
// good for ten years.
func (s *Server) AddToken(user string, scopes ...string) string {
	return s.AddTokenUntil(user, s.opt.Now().AddDate(10, 0, 0), scopes...)
}

// AddTokenUntil is AddToken for a token that expires.
func (s *Server) AddTokenUntil(user string, expires time.Time, scopes ...string) string {
	return s.addToken(&oauthToken{User: user, Scopes: scopes, Expires: expires})
}

// AddAppToken gives an application password of user, for V2 as "$app".
func (s *Server) AddAppToken(user string) string {
	return s.addToken(&oauthToken{User: user, App: true, Expires: s.opt.Now().AddDate(10, 0, 0)})
}

func (s *Server) addToken(t *oauthToken) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := secret()
	s.state.Tokens[token] = t
	return token
}

// AddRobot makes the robot "ns+short" and gives its token.
func (s *Server) AddRobot(ns, short string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &robot{Name: ns + "+" + short, Token: secret(), Created: s.now()}
	s.state.Robots[r.Name] = r
	return r.Token
}

// CreateRepository makes an empty repository. Nested names are taken even
// where clients can't make them.
func (s *Server) CreateRepository(ns, name string, public bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state.Namespaces[ns] == nil:
		return fmt.Errorf("no namespace %q", ns)
	case s.state.Repositories[ns+"/"+name] != nil:
		return fmt.Errorf("%s/%s exists", ns, name)
	case !extendedNameRE.MatchString(name):
		return fmt.Errorf("%q is no name for a repository", name)
	}
	s.addRepository(ns, name, public, "")
	return nil
}

// Grant gives a user or robot "read", "write" or "admin" on repo.
func (s *Server) Grant(repo, grantee, as string) error {
	return s.with(repo, func(r *repository) error {
		if roles[as] == none {
			return fmt.Errorf("no role %q", as)
		}
		r.Grants[grantee] = roles[as]
		return nil
	})
}

// SetState sets a repository to NORMAL, READ_ONLY, MIRROR or ORG_MIRROR.
func (s *Server) SetState(repo, state string) error {
	return s.with(repo, func(r *repository) error { r.State = state; return nil })
}

func (s *Server) with(repo string, do func(*repository) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.state.Repositories[repo]
	if r == nil {
		return fmt.Errorf("no repository %q", repo)
	}
	return do(r)
}

// Push puts img straight into the store and lets tag point to it; tag "" is a
// push by digest. An organisation and a public repository are made where they
// are missing.
func (s *Server) Push(ctx context.Context, repo, tag string, img imagetest.Image) error {
	r := s.repositoryFor(repo, true)
	if err := s.put(ctx, r, img); err != nil {
		return fmt.Errorf("push %s:%s: %w", repo, tag, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name(r, tag, img.Desc.Digest)
	return nil
}

func (s *Server) repositoryFor(repo string, public bool) *repository {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.state.Repositories[repo]; r != nil {
		return r
	}
	ns, name := splitName(repo)
	if s.state.Namespaces[ns] == nil {
		s.createOrg(ns, nil)
	}
	return s.addRepository(ns, name, public, "")
}

// put stores img, children first. What the store has is not stored again.
func (s *Server) put(ctx context.Context, r *repository, img imagetest.Image) error {
	for _, c := range img.Children {
		if err := s.put(ctx, r, c); err != nil {
			return err
		}
	}
	for d, b := range img.Blobs {
		if _, err := s.store.ResolveBlob(ctx, r.storeName(), d); err == nil {
			continue
		}
		if origin := s.origin(d); origin != "" {
			if _, err := s.store.MountBlob(ctx, origin, r.storeName(), d); err == nil {
				continue
			}
		}
		desc := oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(b))}
		if _, err := s.store.PushBlob(ctx, r.storeName(), desc, bytes.NewReader(b)); err != nil {
			return err
		}
		s.origins.Store(d, r.storeName())
	}
	_, err := s.store.PushManifest(ctx, r.storeName(), "", img.Raw, img.Desc.MediaType)
	return err
}

// origin is a repository of the store that Push put d into, so that thousands
// of repositories hold a blob's bytes once.
func (s *Server) origin(d oci.Digest) string {
	name, ok := s.origins.Load(d)
	if !ok {
		return ""
	}
	return name.(string)
}

// SetTag adds an entry to the history of repo's tags as it is. end zero is
// none. An entry that lives ends one that lived at start.
func (s *Server) SetTag(repo, name string, d oci.Digest, start, end time.Time) error {
	return s.with(repo, func(r *repository) error {
		if s.manifest(r, d) == nil {
			return fmt.Errorf("%s holds no manifest %s", repo, d)
		}
		t := &tag{Name: name, Digest: d, Start: start.UTC(), End: end.UTC()}
		if end.IsZero() {
			t.End = time.Time{}
		}
		if old := s.aliveTag(r, name); old != nil && t.alive(s.now()) {
			old.End = start.UTC()
		}
		s.addTag(r, t)
		return nil
	})
}

// MoveTag lets a tag point to another manifest of its repository from now on.
func (s *Server) MoveTag(repo, name string, d oci.Digest) error {
	return s.with(repo, func(r *repository) error {
		if s.manifest(r, d) == nil {
			return fmt.Errorf("%s holds no manifest %s", repo, d)
		}
		s.retag(r, name, d, time.Time{})
		return nil
	})
}

// DeleteTag ends a living tag.
func (s *Server) DeleteTag(repo, name string) error {
	return s.with(repo, func(r *repository) error {
		t := s.aliveTag(r, name)
		if t == nil {
			return fmt.Errorf("%s has no tag %q", repo, name)
		}
		s.endTag(r, t)
		return nil
	})
}

// DeleteRepository removes a repository.
func (s *Server) DeleteRepository(repo string) error {
	return s.with(repo, func(r *repository) error { s.dropRepository(r); return nil })
}
