package quaytest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// getManifest is GET and HEAD of /v2/R/manifests/REF.
func (c *v2Call) getManifest() {
	if digestLike.MatchString(c.path.ref) {
		c.s.mu.Lock()
		reachable := c.s.reachable(c.repo, oci.Digest(c.path.ref), true)
		c.s.mu.Unlock()
		if !reachable {
			manifestUnknown().write(c.w)
			return
		}
		c.sendManifest(oci.Digest(c.path.ref))
		return
	}
	if !tagRE.MatchString(c.path.ref) {
		writeHTML(c.w, http.StatusNotFound)
		return
	}
	c.s.mu.Lock()
	t := c.s.aliveTag(c.repo, c.path.ref)
	was := t == nil && c.s.wasTag(c.repo, c.path.ref)
	c.s.mu.Unlock()
	switch {
	case was:
		(&v2Error{
			status: http.StatusNotFound, code: "TAG_EXPIRED",
			message: fmt.Sprintf("Tag %s was deleted or has expired. To pull, revive via time machine", c.path.ref),
		}).write(c.w)
	case t == nil:
		manifestUnknown().write(c.w)
	default:
		c.negotiate(t.Digest)
	}
}

// sendManifest sends the bytes as they are stored.
func (c *v2Call) sendManifest(d oci.Digest) {
	c.s.forward(c.w, c.r, storeURL(c.repo, "/manifests/"+string(d)), nil, nil)
}

// negotiate sends d if the client names its type; else it converts.
func (c *v2Call) negotiate(d oci.Digest) {
	var accepted []string
	for _, v := range c.r.Header.Values("Accept") {
		for part := range strings.SplitSeq(v, ",") {
			mt, _, _ := strings.Cut(part, ";")
			accepted = append(accepted, strings.TrimSpace(mt))
		}
	}
	m := c.s.manifest(c.repo, d)
	switch {
	case m == nil:
		manifestUnknown().write(c.w)
		return
	case slices.Contains(accepted, m.Desc.MediaType):
		c.sendManifest(d)
		return
	case m.IsList:
		m = c.amd64(m)
	}
	switch {
	case m == nil:
		manifestUnknown().write(c.w)
	case slices.Contains(accepted, m.Desc.MediaType):
		c.sendManifest(m.Desc.Digest)
	case !m.isImage():
		manifestUnknown().write(c.w)
	default:
		c.sendSchema1(m)
	}
}

// amd64 gives a list's child for linux/amd64, nil if there is none.
func (c *v2Call) amd64(list *manifest) *manifest {
	for _, child := range list.Children {
		if p := child.Platform; p != nil && p.OS == "linux" && p.Architecture == "amd64" {
			if m := c.s.manifest(c.repo, child.Digest); m != nil && !m.IsList {
				return m
			}
		}
	}
	return nil
}

// putTypes are the types that a manifest is taken as; the others that Quay
// takes are docker schema 1.
var putTypes = []string{oci.MediaTypeManifest, oci.MediaTypeIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList}

var schema1Types = []string{oci.MediaTypeDockerSchema1, oci.MediaTypeDockerSigned1, "application/json", ""}

// putManifest is PUT /v2/R/manifests/REF.
func (c *v2Call) putManifest() {
	mt := c.r.Header.Get("Content-Type")
	byDigest := digestLike.MatchString(c.path.ref)
	if !byDigest && !tagRE.MatchString(c.path.ref) {
		writeHTML(c.w, http.StatusNotFound)
		return
	}
	raw, err := io.ReadAll(c.r.Body)
	if err != nil {
		return // the client went away
	}
	d := digest.FromBytes(raw)
	desc := oci.Descriptor{MediaType: mt, Digest: d, Size: int64(len(raw))}
	var m *manifest
	switch {
	case slices.Contains(schema1Types, mt):
		err = fmt.Errorf("malformed schema 1 manifest: 'fsLayers' is a required property")
	case !slices.Contains(putTypes, mt):
		e := manifestInvalid("manifest schema version not supported")
		e.status = http.StatusUnsupportedMediaType
		e.write(c.w)
		return
	default:
		m, err = readManifest(desc, raw)
	}
	if err == nil && c.s.opt.NoGeneralOCI && mt == oci.MediaTypeManifest && !m.isImage() {
		err = fmt.Errorf("config media type %s is not supported", m.Config.MediaType)
	}
	var fail *v2Error
	switch {
	case err != nil:
		fail = manifestInvalid("failed to parse manifest: " + err.Error())
	case byDigest && string(d) != c.path.ref:
		fail = manifestInvalid("manifest digest mismatch")
	default:
		if fail = c.checkParts(m); fail != nil && byDigest {
			fail = manifestInvalid("") // Quay tells no more then
		}
	}
	c.s.mu.Lock()
	switch {
	case fail != nil:
	case c.s.overQuota(c.repo.Namespace):
		fail = &v2Error{status: http.StatusForbidden, code: "DENIED", message: "Quota has been exceeded on namespace"}
	case !byDigest && c.s.immutable(c.repo, c.path.ref):
		fail = tagImmutable(c.path.ref, "overwrite")
	}
	c.s.mu.Unlock()
	if fail != nil {
		fail.write(c.w)
		return
	}
	c.store(m, raw, byDigest)
}

func tagImmutable(name, verb string) *v2Error {
	return &v2Error{status: http.StatusConflict, code: "TAG_IMMUTABLE", message: fmt.Sprintf("Cannot %s immutable tag '%s'", verb, name)}
}

// checkParts looks for the blobs and children that m names.
func (c *v2Call) checkParts(m *manifest) *v2Error {
	for _, child := range m.Children {
		switch got := c.s.manifest(c.repo, child.Digest); {
		case !slices.Contains(putTypes, child.MediaType):
			return manifestInvalid("failed to parse manifest: a child is of type " + child.MediaType)
		case got == nil && !c.s.opt.SparseIndex:
			return manifestInvalid(fmt.Sprintf("Could not find child manifest with digest `%s`", child.Digest))
		case got != nil && got.Desc.Size != child.Size:
			return manifestInvalid(fmt.Sprintf("Size of manifest does not match that retrieved: %d vs %d", child.Size, got.Desc.Size))
		}
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]oci.Descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		if len(b.URLs) == 0 && !c.s.hasBlob(c.r.Context(), c.repo, b.Digest) {
			return manifestInvalid(fmt.Sprintf("Unknown blob `%s`", b.Digest))
		}
	}
	return nil
}

// store puts the bytes into the store, and then the name into the history.
func (c *v2Call) store(m *manifest, raw []byte, byDigest bool) {
	d := m.Desc.Digest
	c.r.Body, c.r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	created := false
	c.s.forward(c.w, c.r, storeURL(c.repo, "/manifests/"+string(d)), nil, func(status int, h http.Header) {
		if status != http.StatusCreated {
			return
		}
		created = true
		h.Del("OCI-Subject")
		h.Set("Location", "/v2/"+c.path.name+"/manifests/"+string(d))
		h.Set("Docker-Content-Digest", string(d))
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Length", "2")
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		tag := c.path.ref
		if byDigest {
			tag = ""
		}
		c.s.name(c.repo, tag, d)
	})
	if created {
		_, _ = c.w.Write([]byte("OK")) // a client that went away misses nothing
	}
}

// name lets tag point to d; without a tag the manifest is held for a while.
func (s *Server) name(r *repository, tag string, d oci.Digest) {
	if tag != "" {
		s.retag(r, tag, d, s.labelledEnd(r, d))
		return
	}
	m := s.manifest(r, d)
	s.hold(r, d, m != nil && m.Subject != nil)
}

// deleteManifest is DELETE /v2/R/manifests/REF: of a digest every living tag
// that it has, or one tag.
func (c *v2Call) deleteManifest() {
	c.s.mu.Lock()
	fail := c.endTags()
	c.s.mu.Unlock()
	if fail != nil {
		fail.write(c.w)
		return
	}
	c.w.WriteHeader(http.StatusAccepted)
}

func (c *v2Call) endTags() *v2Error {
	s, now := c.s, c.s.now()
	byDigest := digestLike.MatchString(c.path.ref)
	var ends []*tag
	visible := false
	for _, t := range c.repo.History {
		if t.alive(now) && (byDigest && string(t.Digest) == c.path.ref || !byDigest && t.Name == c.path.ref && !t.Hidden) {
			if s.opt.ImmutableTags && t.Immutable {
				return tagImmutable(t.Name, "delete")
			}
			ends = append(ends, t)
			visible = visible || !t.Hidden
		}
	}
	if !visible {
		return manifestUnknown()
	}
	for _, t := range ends {
		s.endTag(c.repo, t)
	}
	return nil
}
