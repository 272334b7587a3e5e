package quaytest

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

var reservedLabels = []string{
	"com.docker.", "io.docker.", "org.dockerproject.", "org.opencontainers.", "io.cncf.", "io.kubernetes.", "io.k8s.",
	"io.quay", "com.coreos", "com.tectonic", "internal", "quay",
}

// labelKeyRE and doubledRE together are Quay's rule, which has a look-ahead.
var (
	labelKeyRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	doubledRE  = regexp.MustCompile(`[-.][-.]`)
)

// labelled gives the repository and the digest of the URL, if a living tag
// leads to it.
func (c *apiCall) labelled(r *repository) (oci.Digest, bool) {
	d := oci.Digest(c.args[0])
	return d, c.s.reachable(r, d, false) && c.s.manifest(r, d) != nil
}

// listLabels is GET /repository/R/manifest/D/labels.
func (c *apiCall) listLabels() answer {
	r, a, allowed := c.readable()
	if !allowed {
		return a
	}
	d, there := c.labelled(r)
	if !there {
		return c.notFound()
	}
	list := []label{}
	for _, l := range c.s.labels(r, d) {
		if strings.HasPrefix(l.Key, c.q.Get("filter")) {
			list = append(list, l)
		}
	}
	return ok(map[string]any{"labels": list})
}

// addLabel is POST /repository/R/manifest/D/labels.
func (c *apiCall) addLabel() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	body, a, valid := c.body([]string{"key", "value", "media_type"}, map[string]string{"key": "string", "value": "string", "media_type": "string?"})
	if !valid {
		return a
	}
	d, there := c.labelled(r)
	if !there {
		return c.notFound()
	}
	key, mt := body["key"].(string), body["media_type"]
	switch {
	case mt != nil && mt != "text/plain" && mt != "application/json":
		return c.invalid("'media_type' is not one of ['text/plain', 'application/json', None]")
	case slices.ContainsFunc(reservedLabels, func(p string) bool { return strings.HasPrefix(key, p) }):
		return message(http.StatusBadRequest, "Label has a reserved prefix")
	case !labelKeyRE.MatchString(key) || doubledRE.MatchString(key):
		return message(http.StatusBadRequest, "Invalid label key")
	case mt == nil:
		mt = "text/plain"
	}
	// Keys may be there twice, so the ID counts them.
	l := newLabel(d, key, body["value"].(string), "api/"+itoa(len(r.Labels[d])), mt.(string))
	l.Source = "api"
	r.Labels[d] = append(r.Labels[d], l)
	return answer{
		status: http.StatusCreated, body: map[string]any{"label": l},
		header: map[string]string{"Location": baseURL(c.r) + c.r.URL.Path + "/" + l.ID},
	}
}

// getLabel is GET /repository/R/manifest/D/labels/ID.
func (c *apiCall) getLabel() answer {
	r, a, allowed := c.readable()
	if !allowed {
		return a
	}
	if d, there := c.labelled(r); there {
		for _, l := range c.s.labels(r, d) {
			if l.ID == c.args[1] {
				return ok(l)
			}
		}
	}
	return c.notFound()
}

// deleteLabel is DELETE /repository/R/manifest/D/labels/ID.
func (c *apiCall) deleteLabel() answer {
	r, a, allowed := c.writable()
	if !allowed {
		return a
	}
	d, there := c.labelled(r)
	if !there {
		return c.notFound()
	}
	for _, l := range c.s.labels(r, d) {
		switch {
		case l.ID != c.args[1]:
		case l.Source != "api":
			return message(http.StatusBadRequest, "Cannot delete immutable label")
		default:
			r.Labels[d] = slices.DeleteFunc(r.Labels[d], func(o label) bool { return o.ID == l.ID })
			return noContent()
		}
	}
	return c.notFound()
}
