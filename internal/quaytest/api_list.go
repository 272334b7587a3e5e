package quaytest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

const (
	repositoriesPerPage = 100
	pageTokenLife       = 48 * time.Hour
)

// listRepositories is GET /repository: section 2 of the contract.
func (c *apiCall) listRepositories() answer {
	ns := c.q.Get("namespace")
	public := truthy(c.q, "public", false)
	starred := truthy(c.q, "starred", false)
	kind := "image"
	if c.q.Has("repo_kind") {
		kind = c.q.Get("repo_kind")
	}
	switch {
	case starred && c.who.user == "":
		return message(http.StatusBadRequest, "The browser (or proxy) sent a request that this server could not understand.")
	case !starred && ns == "" && !public:
		return c.invalid("namespace, starred or public are required for this API call")
	case kind != "image" && (c.who.user != "" || public):
		return message(http.StatusBadRequest, "Unknown repository kind")
	}
	start := c.s.openPageToken(c.q.Get("next_page"))
	body := map[string]any{}
	list := []map[string]any{}
	for _, r := range c.s.byID {
		if r.ID < start || !c.listed(r, ns, public, starred) {
			continue
		}
		if len(list) == repositoriesPerPage-1 && starred {
			break // page 1 ends early and gives no token, so the rest can't be reached
		}
		if len(list) == repositoriesPerPage {
			body["next_page"] = c.s.sealPageToken(r.ID)
			break
		}
		list = append(list, c.repositoryRow(r, kind))
	}
	body["repositories"] = list
	return ok(body)
}

// listed reports whether r belongs to the listing.
func (c *apiCall) listed(r *repository, ns string, public, starred bool) bool {
	visible := c.s.rights(c.who.user, r.fullName()) >= read // scopes don't count here
	if starred {
		return c.starred(r) && (visible || r.Public)
	}
	return (ns == "" || r.Namespace == ns) && (visible || public && r.Public)
}

func (c *apiCall) starred(r *repository) bool {
	u := c.s.state.Namespaces[c.who.user]
	return u != nil && u.Stars[r.fullName()]
}

func (c *apiCall) repositoryRow(r *repository, kind string) map[string]any {
	row := map[string]any{
		"namespace": r.Namespace, "name": r.Name, "description": r.Description,
		"is_public": r.Public, "kind": kind, "state": r.State,
	}
	if truthy(c.q, "last_modified", false) {
		row["last_modified"] = c.s.lastModified(r)
	}
	if truthy(c.q, "popularity", false) {
		row["popularity"] = r.Popularity
	}
	if c.who.user != "" {
		row["is_starred"] = c.starred(r)
	}
	if c.s.opt.QuotaManagement {
		row["quota_report"] = c.s.quotaReport(r)
	}
	return row
}

// lastModified is the newest start of a living tag in Unix seconds, nil if
// there is none.
func (s *Server) lastModified(r *repository) any {
	tags := s.visibleTags(r, true)
	if len(tags) == 0 {
		return nil
	}
	return tags[0].Start.Unix()
}

// A pageToken is what next_page holds.
type pageToken struct {
	Start   int64 `json:"start_index"`
	Expires int64
}

// sealPageToken makes an opaque token, as Quay's Fernet does.
func (s *Server) sealPageToken(start int64) string {
	raw, err := json.Marshal(pageToken{start, s.now().Add(pageTokenLife).Unix()})
	if err != nil {
		panic(err) // of our own types
	}
	gcm := s.sealer()
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	return base64.URLEncoding.EncodeToString(slices.Concat([]byte{0x80, 0}, gcm.Seal(nonce, nonce, raw, nil)))
}

// openPageToken gives where the page starts. A bad or expired token is the
// first page.
func (s *Server) openPageToken(token string) int64 {
	raw, err := base64.URLEncoding.DecodeString(token)
	gcm := s.sealer()
	if err != nil || len(raw) < 2+gcm.NonceSize() {
		return 0
	}
	raw = raw[2:]
	raw, err = gcm.Open(nil, raw[:gcm.NonceSize()], raw[gcm.NonceSize():], nil)
	var t pageToken
	if err != nil || json.Unmarshal(raw, &t) != nil || t.Expires < s.now().Unix() {
		return 0
	}
	return t.Start
}

func (s *Server) sealer() cipher.AEAD {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}
