package dockerpush

import (
	"context"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// staleTime bounds the search for tags of killed runs.
const staleTime = 5 * time.Second

// ourTag is what a push calls its image, and where its registry is.
var ourTag = regexp.MustCompile(`^(127\.0\.0\.1:[0-9]{1,5})/` + repositories + `[0-9a-f]{32}:[\w.-]+$`)

// sweep removes tags that killed runs have left: of our own kind, whose registry is
// gone. An image that has no other name keeps them. It is an errand: what fails
// is left to the next run.
func (s *source) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, staleTime)
	defer cancel()
	type image struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	var list []image
	query := url.Values{"filters": {`{"reference":["127.0.0.1:*/` + repositories + `*"]}`}}
	if s.client.JSON(ctx, "/images/json", query, &list) != nil {
		return
	}
	for _, i := range list {
		// The list has only the names that were asked for.
		if !slices.ContainsFunc(i.RepoTags, isStale(ctx)) || oci.ValidDigest(oci.Digest(i.ID)) != nil ||
			s.client.JSON(ctx, "/images/"+engine.EscapeRef(i.ID)+"/json", nil, &i) != nil ||
			!slices.ContainsFunc(i.RepoTags, func(tag string) bool { return !ourTag.MatchString(tag) }) {
			continue
		}
		for _, tag := range slices.DeleteFunc(i.RepoTags, func(tag string) bool { return !isStale(ctx)(tag) }) {
			_ = s.remove(ctx, tag)
		}
	}
}

// isStale reports whether a tag is ours and nobody listens where its registry was.
func isStale(ctx context.Context) func(tag string) bool {
	return func(tag string) bool {
		m := ourTag.FindStringSubmatch(tag)
		if m == nil {
			return false
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp4", m[1])
		if err == nil {
			_ = conn.Close() // nothing was said
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}
}
