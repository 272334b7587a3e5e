package quaytest

import (
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	storagePrefix = "/quay-storage/"
	proxyPrefix   = "/_storage_proxy/"
	cacheControl  = "max-age=31436000"
)

// headBlob is HEAD /v2/R/blobs/D. It never redirects.
func (c *v2Call) headBlob() {
	d, ok := c.digest()
	if !ok {
		return
	}
	desc, err := c.s.store.ResolveBlob(c.r.Context(), c.repo.storeName(), d)
	if err != nil {
		blobUnknown().write(c.w)
		return
	}
	c.s.forward(c.w, c.r, storeURL(c.repo, c.path.last), nil, func(_ int, h http.Header) {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.FormatInt(desc.Size, 10))
		h.Set("Cache-Control", cacheControl)
	})
}

// digest is the sha256 of the URL; else it answers with the miss of a route.
func (c *v2Call) digest() (oci.Digest, bool) {
	if !digestRE.MatchString(c.path.ref) {
		writeHTML(c.w, http.StatusNotFound)
		return "", false
	}
	return oci.Digest(c.path.ref), true
}

// getBlob is GET /v2/R/blobs/D: a redirect to the storage, or the blob.
func (c *v2Call) getBlob() {
	d, ok := c.digest()
	if !ok {
		return
	}
	if !c.s.hasBlob(c.r.Context(), c.repo, d) {
		blobUnknown().write(c.w)
		return
	}
	c.w.Header().Set("Docker-Content-Digest", string(d))
	if c.s.opt.StreamBlobs {
		c.r.Header.Del("Range") // Quay ignores it here
		c.s.sendBlob(c.w, c.r, c.full, c.repo.storeName(), d, strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip"))
		return
	}
	c.w.Header().Set("Location", c.s.blobURL(c.r, c.full, c.repo.storeName(), d))
	c.w.WriteHeader(http.StatusFound)
}

// blobURL signs a URL of the storage for a while.
func (s *Server) blobURL(r *http.Request, repo, store string, d oci.Digest) string {
	s.mu.Lock()
	base, prefix := s.storage, storagePrefix
	s.mu.Unlock()
	if base == "" || s.opt.StorageProxy {
		base, prefix = baseURL(r), proxyPrefix
	}
	q := url.Values{"repository": {repo}, "store": {store}, "Expires": {strconv.FormatInt(s.opt.Now().Add(s.opt.URLLife).UnixNano(), 10)}}
	q.Set("Signature", s.signature(q, d))
	return base + prefix + "sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "?" + q.Encode()
}

func (s *Server) signature(q url.Values, d oci.Digest) string {
	m := hmac.New(sha256.New, s.key)
	fmt.Fprintf(m, "%s\n%s\n%s\n%s", q.Get("repository"), q.Get("store"), q.Get("Expires"), d)
	return hex.EncodeToString(m.Sum(nil))
}

// serveBlobURL serves what blobURL signed. The registry takes no part in it.
func (s *Server) serveBlobURL(w http.ResponseWriter, r *http.Request, prefix string) {
	q := r.URL.Query()
	d := oci.Digest("sha256:" + r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	expires, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
	switch {
	case !strings.HasPrefix(r.URL.Path, prefix), !digestRE.MatchString(string(d)):
		writeXML(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	case r.Method != http.MethodGet, err != nil, !hmac.Equal([]byte(q.Get("Signature")), []byte(s.signature(q, d))):
		writeXML(w, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	case !s.opt.Now().Before(time.Unix(0, expires)):
		writeXML(w, http.StatusForbidden, "AccessDenied", "Request has expired")
	default:
		w.Header().Set("Accept-Ranges", "bytes")
		s.sendBlob(w, r, q.Get("repository"), q.Get("store"), d, false)
	}
}

// sendBlob sends a blob or a range of it, and counts it if that ends where the
// blob ends.
func (s *Server) sendBlob(w http.ResponseWriter, r *http.Request, repo, store string, d oci.Digest, zip bool) {
	counter := &bodyCounter{ResponseWriter: w}
	var out http.ResponseWriter = counter
	if zip {
		z := gzip.NewWriter(w)
		defer z.Close()
		counter.body = z
	}
	r2 := r.Clone(r.Context())
	r2.Header.Del("Authorization")
	s.forward(out, r2, "/v2/"+store+"/blobs/"+string(d), nil, func(status int, h http.Header) {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Cache-Control", cacheControl)
		counter.end = lastByte(status, h)
		counter.size, _ = strconv.ParseInt(h.Get("Content-Length"), 10, 64)
		if zip {
			h.Del("Content-Length")
			h.Set("Content-Encoding", "gzip")
		}
	})
	if counter.end && counter.n == counter.size {
		s.meter.transferred(func(t Transfers) map[Blob]int { return t.Gets }, repo, d)
	}
}

// lastByte reports whether an answer with these headers goes to the blob's end.
func lastByte(status int, h http.Header) bool {
	if status != http.StatusPartialContent {
		return status == http.StatusOK
	}
	var from, to, size int64
	_, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
	return err == nil && to+1 == size
}

// A bodyCounter counts the bytes of a body that were written.
type bodyCounter struct {
	http.ResponseWriter
	body interface{ Write([]byte) (int, error) } // nil: the ResponseWriter
	n    int64
	size int64 // of the body
	end  bool  // it reaches the end of the blob
}

func (b *bodyCounter) Write(p []byte) (n int, err error) {
	if b.body != nil {
		n, err = b.body.Write(p)
	} else {
		n, err = b.ResponseWriter.Write(p)
	}
	b.n += int64(n)
	return n, err
}
