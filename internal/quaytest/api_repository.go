package quaytest

import (
	"net/http"
)

// maxDetailTags is how many tags the detail of a repository holds.
const maxDetailTags = 500

// getRepository is GET /repository/R: section 3.1 of the contract.
func (c *apiCall) getRepository() answer {
	r, a, allowed := c.readable()
	if !allowed {
		return a
	}
	has := c.who.cap(c.s.rights(c.who.user, c.repo))
	ns := c.s.state.Namespaces[r.Namespace]
	body := map[string]any{
		"namespace": r.Namespace, "name": r.Name, "kind": "image", "description": r.Description,
		"is_public": r.Public, "is_organization": ns != nil && ns.Org, "is_starred": c.starred(r),
		"status_token": "", "trust_enabled": false, "is_free_account": true,
		"tag_expiration_s": int64(c.s.opt.TimeMachine.Seconds()), "state": r.State,
		"can_write": has >= write && r.State == "NORMAL", "can_admin": has >= admin,
	}
	if !r.Public {
		body["status_token"] = "badge-" + itoa(int(r.ID))
	}
	if truthy(c.q, "includeTags", true) {
		tags := map[string]any{}
		for _, t := range c.s.visibleTags(r, true) {
			if len(tags) == maxDetailTags {
				break
			}
			tags[t.Name] = c.s.detailTag(r, t)
		}
		body["tags"] = tags
	}
	if truthy(c.q, "includeStats", false) {
		body["stats"] = []any{}
	}
	return ok(body)
}

func (s *Server) detailTag(r *repository, t *tag) map[string]any {
	row := map[string]any{"name": t.Name, "size": nil, "manifest_digest": t.Digest}
	if m := s.manifest(r, t.Digest); m != nil {
		row["size"] = m.size()
	}
	if t.Start.Unix() > 0 {
		row["last_modified"] = rfc2822(t.Start)
	}
	if !t.End.IsZero() {
		row["expiration"] = rfc2822(t.End)
	}
	return row
}

// createRepository is POST /repository.
func (c *apiCall) createRepository() answer {
	if c.who.user == "" {
		return c.unauthorized()
	}
	body, a, valid := c.body([]string{"repository", "visibility", "description"}, map[string]string{
		"repository": "string", "visibility": "string", "description": "string", "namespace": "string", "repo_kind": "string?",
	})
	if !valid {
		return a
	}
	visibility := body["visibility"]
	if visibility != "public" && visibility != "private" {
		return c.invalid("'visibility' is not one of ['public', 'private']")
	}
	if k := body["repo_kind"]; k != nil && k != "image" {
		return c.invalid("'repo_kind' is not one of ['image', None]")
	}
	ns, given := body["namespace"].(string)
	if !given {
		ns = c.who.user
	}
	name := body["repository"].(string)
	n := c.s.state.Namespaces[ns]
	switch {
	case !c.s.mayCreate(c.who, ns):
		return c.apiError(http.StatusForbidden, "insufficient_scope", "Unauthorized")
	case c.s.opt.OrgMirror && n.Mirrored:
		return c.invalid("Cannot create a repository in a mirrored organization")
	case c.s.state.Repositories[ns+"/"+name] != nil:
		return c.invalid("Repository already exists")
	case !c.s.validRepoName(name):
		return c.invalid("Invalid repository name")
	}
	r := c.s.addRepository(ns, name, visibility == "public", c.who.user)
	description := body["description"].(string)
	r.Description = &description
	return answer{status: http.StatusCreated, body: map[string]any{"namespace": ns, "name": name, "kind": "image"}}
}

// changeRepository is PUT /repository/R.
func (c *apiCall) changeRepository() answer {
	r, a, allowed := c.allowed(write)
	if !allowed {
		return a
	}
	body, a, valid := c.body([]string{"description"}, map[string]string{"description": "string"})
	if !valid {
		return a
	}
	description := body["description"].(string)
	r.Description = &description
	return ok(map[string]any{"success": true})
}

// deleteRepository is DELETE /repository/R: 204 for the namespace's admins,
// whether it is there or not.
func (c *apiCall) deleteRepository() answer {
	if a, allowed := c.require(admin); !allowed {
		return a
	}
	if r := c.s.state.Repositories[c.repo]; r != nil {
		c.s.dropRepository(r)
	}
	return noContent()
}

// changeVisibility is POST /repository/R/changevisibility.
func (c *apiCall) changeVisibility() answer {
	if a, allowed := c.require(admin); !allowed {
		return a
	}
	body, a, valid := c.body([]string{"visibility"}, map[string]string{"visibility": "string"})
	if !valid {
		return a
	}
	v := body["visibility"]
	if v != "public" && v != "private" {
		return c.invalid("'visibility' is not one of ['public', 'private']")
	}
	r := c.s.state.Repositories[c.repo]
	if r == nil {
		return ok(nil)
	}
	r.Public = v == "public"
	return ok(map[string]any{"success": true})
}

// changeState is PUT /repository/R/changestate.
func (c *apiCall) changeState() answer {
	r, a, allowed := c.allowed(admin)
	if !allowed {
		return a
	}
	body, a, valid := c.body([]string{"state"}, map[string]string{"state": "string"})
	if !valid {
		return a
	}
	switch v := body["state"].(string); {
	case v != "NORMAL" && v != "READ_ONLY" && v != "MIRROR":
		return c.invalid("'state' is not one of ['NORMAL', 'READ_ONLY', 'MIRROR']")
	case r.State == "ORG_MIRROR":
		return answer{status: http.StatusBadRequest, body: map[string]any{"detail": "The state of a repository of a mirrored organization can't be changed"}}
	default:
		r.State = v
	}
	return ok(map[string]any{"success": true})
}
