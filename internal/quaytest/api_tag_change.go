package quaytest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	expirationMin = time.Hour
	expirationMax = 104 * 7 * 24 * time.Hour
)

// changeTag is PUT /repository/R/tag/T. Its keys take effect one after the
// other, also if a later one fails.
func (c *apiCall) changeTag() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	body, a, valid := c.body(nil, map[string]string{"expiration": "number?", "immutable": "boolean", "manifest_digest": "string"})
	if !valid {
		return a
	}
	name := c.args[0]
	if !tagRE.MatchString(name) {
		return message(http.StatusBadRequest, `Invalid tag: must match [A-Za-z0-9_.-], NOT start with "." or "-", and can contain 1-128 characters`)
	}
	if v, given := body["expiration"]; given {
		if a, done := c.changeExpiration(r, name, v); !done {
			return a
		}
	}
	if v, given := body["immutable"].(bool); given && c.s.opt.ImmutableTags {
		t := c.s.aliveTag(r, name)
		if t == nil {
			return c.notFound()
		}
		if t.Immutable && !v && c.who.cap(c.s.rights(c.who.user, c.repo)) < admin {
			return c.unauthorized()
		}
		t.Immutable = v
	}
	if v, given := body["manifest_digest"].(string); given {
		d := oci.Digest(v)
		if c.s.manifest(r, d) == nil || !c.s.reachable(r, d, false) {
			return c.notFound()
		}
		if c.s.immutable(r, name) {
			return c.immutableTag("overwrite", name)
		}
		c.s.retag(r, name, d, c.s.labelledEnd(r, d))
	}
	return answer{status: http.StatusCreated, body: "Updated"}
}

// changeExpiration sets when a living tag ends: null is never, a time is
// clamped to an hour and 104 weeks from the tag's start.
func (c *apiCall) changeExpiration(r *repository, name string, v any) (answer, bool) {
	t := c.s.aliveTag(r, name)
	if t == nil {
		return c.notFound(), false
	}
	if c.s.immutable(r, name) {
		return c.immutableTag("change expiration of", name), false
	}
	if v == nil {
		t.End = time.Time{}
		return answer{}, true
	}
	end := time.Unix(int64(v.(float64)), 0).UTC()
	if !end.After(c.s.now()) {
		return message(http.StatusBadRequest, "Could not set tag expiration: the time is in the past"), false
	}
	if first := t.Start.Add(expirationMin); end.Before(first) {
		end = first
	}
	if last := t.Start.Add(expirationMax); end.After(last) {
		end = last
	}
	t.End = end
	return answer{}, true
}

// immutable reports whether a living tag of that name can't be changed.
func (s *Server) immutable(r *repository, name string) bool {
	t := s.aliveTag(r, name)
	return s.opt.ImmutableTags && t != nil && t.Immutable
}

func (c *apiCall) immutableTag(verb, name string) answer {
	return c.apiError(http.StatusConflict, "tag_immutable", fmt.Sprintf("Cannot %s immutable tag '%s'", verb, name))
}

// deleteTag is DELETE /repository/R/tag/T.
func (c *apiCall) deleteTag() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	t := c.s.aliveTag(r, c.args[0])
	if t == nil {
		return c.notFound()
	}
	if c.s.immutable(r, t.Name) {
		return c.immutableTag("delete", t.Name)
	}
	c.s.endTag(r, t)
	return noContent()
}

// restoreTag is POST /repository/R/tag/T/restore. It takes manifests that only
// dead tags name, and makes tags that never were.
func (c *apiCall) restoreTag() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	body, a, valid := c.body(nil, map[string]string{"manifest_digest": "string"})
	if !valid {
		return a
	}
	v, given := body["manifest_digest"].(string)
	if !given {
		return c.invalid("Missing manifest_digest")
	}
	d, name := oci.Digest(v), c.args[0]
	if c.s.manifest(r, d) == nil || !c.s.known(r, d) {
		return c.notFound()
	}
	if c.s.immutable(r, name) {
		return c.immutableTag("overwrite", name)
	}
	c.s.retag(r, name, d, time.Time{}).Reversion = true
	return ok(map[string]any{})
}

// expireTag is POST /repository/R/tag/T/expire: the dead entries of a name
// leave the time machine, or all that have manifest_digest.
func (c *apiCall) expireTag() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	body, a, valid := c.body(nil, map[string]string{"manifest_digest": "string", "include_submanifests": "boolean", "is_alive": "boolean"})
	if !valid {
		return a
	}
	if alive, _ := body["is_alive"].(bool); alive {
		t := c.s.aliveTag(r, c.args[0])
		if t == nil {
			return c.notFound()
		}
		c.s.endTag(r, t)
	}
	now, only := c.s.now(), body["manifest_digest"]
	before := len(r.History)
	r.History = slices.DeleteFunc(r.History, func(t *tag) bool {
		return t.Name == c.args[0] && !t.alive(now) && (only == nil || only == string(t.Digest))
	})
	if len(r.History) == before {
		return c.notFound()
	}
	return ok("")
}
