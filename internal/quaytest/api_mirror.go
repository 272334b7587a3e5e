package quaytest

import (
	"maps"
	"net/http"
)

var mirrorKinds = map[string]string{
	"is_enabled": "boolean", "external_reference": "string", "external_registry_username": "string?", "external_registry_password": "string?",
	"sync_interval": "number", "sync_start_date": "string?", "robot_username": "string?", "skopeo_timeout_interval": "number",
}

// getMirror is GET /repository/R/mirror.
func (c *apiCall) getMirror() answer {
	r, a, allowed := c.allowed(admin)
	switch {
	case !allowed:
		return a
	case r.Mirror == nil:
		return c.notFound()
	}
	return ok(r.Mirror)
}

// createMirror is POST /repository/R/mirror.
func (c *apiCall) createMirror() answer {
	r, a, allowed := c.allowed(admin)
	if !allowed {
		return a
	}
	body, a, valid := c.body([]string{"external_reference", "sync_interval", "sync_start_date", "root_rule"}, mirrorKinds)
	if !valid {
		return a
	}
	r.Mirror = map[string]any{
		"is_enabled": true, "mirror_type": "PULL", "external_reference": nil, "external_registry_username": nil,
		"external_registry_config": map[string]any{}, "sync_interval": nil, "sync_start_date": nil, "sync_expiration_date": nil,
		"sync_retries_remaining": 3, "sync_status": "NEVER_RUN", "root_rule": nil, "robot_username": nil,
		"skopeo_timeout_interval": 300, "architecture_filter": []any{},
	}
	change(r.Mirror, body)
	return answer{status: http.StatusCreated, body: ""}
}

// changeMirror is PUT /repository/R/mirror.
func (c *apiCall) changeMirror() answer {
	r, a, allowed := c.allowed(admin)
	switch {
	case !allowed:
		return a
	case r.Mirror == nil:
		return c.notFound()
	}
	body, a, valid := c.body(nil, mirrorKinds)
	if !valid {
		return a
	}
	change(r.Mirror, body)
	return answer{status: http.StatusCreated, body: ""}
}

// change takes the keys of body that a mirror shows; the password isn't one.
func change(mirror, body map[string]any) {
	body = maps.Clone(body)
	maps.DeleteFunc(body, func(k string, _ any) bool { _, shown := mirror[k]; return !shown })
	maps.Copy(mirror, body)
}

// syncMirror is POST /repository/R/mirror/sync-now and sync-cancel. Nothing is
// fetched.
func (c *apiCall) syncMirror() answer {
	r, a, allowed := c.allowed(admin)
	switch {
	case !allowed:
		return a
	case r.Mirror == nil:
		return c.notFound()
	}
	return answer{status: http.StatusNoContent, empty: true}
}
