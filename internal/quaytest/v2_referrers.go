package quaytest

import (
	"net/http"

	"github.com/quaymaster/quaymaster/oci"
)

// listReferrers is GET /v2/R/referrers/D: section 6.5 of the contract.
func (c *v2Call) listReferrers() {
	d := oci.Digest(c.path.ref)
	if c.s.opt.NoReferrers {
		(&v2Error{status: http.StatusNotFound, plain: "Not Found"}).write(c.w)
		return
	}
	if !digestLike.MatchString(c.path.ref) {
		writeHTML(c.w, http.StatusNotFound)
		return
	}
	c.s.mu.Lock()
	known := c.s.manifest(c.repo, d) != nil && c.s.reachable(c.repo, d, true)
	c.s.mu.Unlock()
	if !known {
		manifestInvalid("").write(c.w)
		return
	}
	want := c.r.URL.Query().Get("artifactType")
	list := []oci.Descriptor{}
	for desc, err := range c.s.store.Referrers(c.r.Context(), c.repo.storeName(), d, "") {
		if err != nil {
			writeStoreError(c.w, c.r, err)
			return
		}
		m := c.s.manifest(c.repo, desc.Digest)
		c.s.mu.Lock()
		alive := m != nil && c.s.reachable(c.repo, desc.Digest, true)
		c.s.mu.Unlock()
		if alive && (want == "" || m.ArtifactType == want) {
			list = append(list, oci.Descriptor{MediaType: m.Desc.MediaType, Digest: m.Desc.Digest, Size: m.Desc.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
		}
	}
	if want != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	writeJSONAs(c.w, oci.MediaTypeIndex, http.StatusOK, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": list})
}
