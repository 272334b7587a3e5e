package quaytest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"cuelabs.dev/go/oci/ociregistry"

	"github.com/quaymaster/quaymaster/oci"
)

// An upload is a session that the store has. Its requests wait for each other:
// a client may come back before we know that its last request broke.
type upload struct {
	mu   sync.Mutex
	repo *repository
	id   string // the store's
}

// startUpload is POST /v2/R/blobs/uploads/: also a mount, also with ?digest=
// the whole blob.
func (c *v2Call) startUpload() {
	q := c.r.URL.Query()
	c.s.mu.Lock()
	full := c.s.overQuota(c.repo.Namespace)
	c.s.mu.Unlock()
	switch {
	case full:
		(&v2Error{status: http.StatusForbidden, code: "DENIED", message: "Quota has been exceeded on namespace"}).write(c.w)
	case q.Get("mount") != "" && !c.s.opt.NoMounts && c.mount(oci.Digest(q.Get("mount")), q.Get("from")):
	case q.Get("digest") != "" && q.Get("mount") == "":
		c.putWhole(oci.Digest(q.Get("digest")))
	default:
		c.s.forward(c.w, c.r, storeURL(c.repo, "/blobs/uploads/"), nil, func(status int, h http.Header) {
			if status != http.StatusAccepted {
				return
			}
			name := h.Get("Location")[strings.LastIndexByte(h.Get("Location"), '/')+1:]
			id, err := b64.DecodeString(name)
			if err != nil {
				panic(err) // ociserver's form of locations has changed
			}
			c.s.uploads.Store(name, &upload{repo: c.repo, id: string(id)})
			h.Del("OCI-Chunk-Min-Length")
			c.uploadHeaders(h, name)
			h.Set("Range", "bytes=0--1")
		})
	}
}

func (c *v2Call) uploadHeaders(h http.Header, name string) {
	h.Set("Location", baseURL(c.r)+"/v2/"+c.path.name+"/blobs/uploads/"+name)
	h.Set("Docker-Upload-UUID", name)
}

// mount takes d from another repository; false if there is any doubt.
func (c *v2Call) mount(d oci.Digest, from string) bool {
	name, ok := c.s.repoName(from)
	if from == "" || !ok || !digestRE.MatchString(string(d)) {
		return false
	}
	c.s.mu.Lock()
	origin := c.s.state.Repositories[name]
	c.s.mu.Unlock()
	other := &v2Call{s: c.s, path: v2Path{name: from}, full: name, token: c.token}
	if origin == nil || !other.may("pull") || !c.s.hasBlob(c.r.Context(), origin, d) {
		return false
	}
	q := url.Values{"mount": {string(d)}, "from": {origin.storeName()}}
	c.s.forward(c.w, c.r, storeURL(c.repo, "/blobs/uploads/"), q, func(status int, h http.Header) {
		if status == http.StatusCreated {
			c.stored(h, d)
			c.s.meter.transferred(func(t Transfers) map[Blob]int { return t.Mounts }, c.full, d)
		}
	})
	return true
}

// stored sets the headers of a 201.
func (c *v2Call) stored(h http.Header, d oci.Digest) {
	h.Set("Location", baseURL(c.r)+"/v2/"+c.path.name+"/blobs/"+string(d))
	h.Set("Docker-Content-Digest", string(d))
}

// putWhole takes a blob in one POST.
func (c *v2Call) putWhole(d oci.Digest) {
	if !digestRE.MatchString(string(d)) {
		uploadInvalid().write(c.w)
		return
	}
	c.s.forward(c.w, c.r, storeURL(c.repo, "/blobs/uploads/"), url.Values{"digest": {string(d)}}, c.onStored(d, nil))
}

// onStored is what is done when the store has answered an upload.
func (c *v2Call) onStored(d oci.Digest, ended func()) func(int, http.Header) {
	return func(status int, h http.Header) {
		if ended != nil && (status == http.StatusCreated || status == http.StatusBadRequest) {
			ended()
		}
		if status == http.StatusCreated {
			c.stored(h, d)
			c.s.meter.transferred(func(t Transfers) map[Blob]int { return t.Puts }, c.full, d)
		}
	}
}

// session gives the upload of the URL, locked, and how many bytes it has.
func (c *v2Call) session() (*upload, int64, bool) {
	v, ok := c.s.uploads.Load(c.path.ref)
	if !ok || v.(*upload).repo != c.repo {
		uploadUnknown().write(c.w)
		return nil, 0, false
	}
	u := v.(*upload)
	u.mu.Lock()
	w, err := c.writer(u)
	if err != nil {
		u.mu.Unlock()
		uploadUnknown().write(c.w)
		return nil, 0, false
	}
	return u, w.Size(), true
}

func (c *v2Call) writer(u *upload) (ociregistry.BlobWriter, error) {
	if _, live := c.s.uploads.Load(c.path.ref); !live {
		return nil, ociregistry.ErrBlobUploadUnknown // it ended while we waited
	}
	return c.s.store.PushBlobChunkedResume(c.r.Context(), u.repo.storeName(), u.id, -1, 0)
}

var contentRangeRE = regexp.MustCompile(`^(\d+)-(\d+)$`)

// chunk lines the body up with the upload: what was received before is
// skipped. It reports false if it has answered.
func (c *v2Call) chunk(received int64) bool {
	v := c.r.Header.Get("Content-Range")
	c.r.Header.Del("Content-Range") // the store appends
	c.r.ContentLength = -1
	if v == "" {
		return true
	}
	m := contentRangeRE.FindStringSubmatch(v)
	if m == nil {
		(&v2Error{status: http.StatusBadRequest, code: "INVALID_REQUEST", message: "Invalid range header"}).write(c.w)
		return false
	}
	from, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || from > received {
		c.uploadHeaders(c.w.Header(), c.path.ref)
		c.w.Header().Set("Range", fmt.Sprintf("0-%d", received))
		c.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return false
	}
	if from > 0 && from < received {
		_, err := io.CopyN(io.Discard, c.r.Body, received-from)
		return err == nil || err == io.EOF
	}
	return true
}

// patchUpload is PATCH of an upload.
func (c *v2Call) patchUpload() {
	u, received, ok := c.session()
	if !ok {
		return
	}
	defer u.mu.Unlock()
	if !c.chunk(received) {
		return
	}
	c.s.forward(c.w, c.r, storeURL(c.repo, c.path.last), nil, func(status int, h http.Header) {
		if status != http.StatusAccepted {
			return
		}
		c.uploadHeaders(h, c.path.ref)
		if w, err := c.writer(u); err == nil {
			h.Set("Range", fmt.Sprintf("0-%d", w.Size()-1))
		}
	})
}

// putUpload is PUT of an upload, with or without a last chunk. A wrong digest
// ends the upload.
func (c *v2Call) putUpload() {
	d := oci.Digest(c.r.URL.Query().Get("digest"))
	u, received, ok := c.session()
	if !ok {
		return
	}
	defer u.mu.Unlock()
	if !digestRE.MatchString(string(d)) {
		uploadInvalid().write(c.w)
		return
	}
	if !c.chunk(received) {
		return
	}
	c.s.forward(c.w, c.r, storeURL(c.repo, c.path.last), url.Values{"digest": {string(d)}}, c.onStored(d, func() { c.end(u) }))
}

// end forgets an upload. What the store still has of it is freed.
func (c *v2Call) end(u *upload) {
	if w, err := c.writer(u); err == nil {
		_ = w.Cancel() // after a commit it does nothing
	}
	c.s.uploads.Delete(c.path.ref)
}

// uploadStatus is GET of an upload.
func (c *v2Call) uploadStatus() {
	u, received, ok := c.session()
	if !ok {
		return
	}
	defer u.mu.Unlock()
	c.uploadHeaders(c.w.Header(), c.path.ref)
	c.w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", received))
	c.w.WriteHeader(http.StatusNoContent)
}

// cancelUpload is DELETE of an upload.
func (c *v2Call) cancelUpload() {
	u, _, ok := c.session()
	if !ok {
		return
	}
	defer u.mu.Unlock()
	c.end(u)
	c.w.WriteHeader(http.StatusNoContent)
}
