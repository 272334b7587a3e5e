package quay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// ErrImmutable means that a tag can't be moved, deleted or made to expire, because
// somebody has made it immutable.
var ErrImmutable = errors.New("the tag is immutable")

// DeleteTag takes the tag name away from repo ("namespace/name") and nothing else:
// the manifest stays for the time machine. Cosign's tags of a digest that has no
// other tag go with it, which is Quay's doing.
//
// It returns an error matching [oci.ErrNotFound] if there is no such tag that
// lives, [ErrImmutable] if it may not be deleted, and [oci.ErrDenied] if the token
// may not, or the repository takes no writes for now.
//
// Source: DELETE /api/v1/repository/{repository}/tag/{tag}.
func (c *Client) DeleteTag(ctx context.Context, repo, name string) error {
	_, err := c.writeTag(ctx, http.MethodDelete, repo, name, "", nil)
	return oci.Wrap(err, "delete tag", c.ref(repo)+":"+name, oci.Descriptor{})
}

// RestoreTag lets the tag name mean digest, which the repository had under any tag
// for as long as its time machine reaches ([RepositoryDetail.Restorable]); the tag
// need not be there. An expiry that the tag had is gone then.
//
// Errors are those of [Client.DeleteTag]; [oci.ErrNotFound] means that Quay has
// digest no more, or never had.
//
// Source: POST /api/v1/repository/{repository}/tag/{tag}/restore.
func (c *Client) RestoreTag(ctx context.Context, repo, name string, digest oci.Digest) error {
	err := oci.ValidDigest(digest)
	if err == nil {
		_, err = c.writeTag(ctx, http.MethodPost, repo, name, "restore", map[string]string{"manifest_digest": string(digest)})
	}
	return oci.Wrap(err, "restore tag", c.ref(repo)+":"+name, oci.Descriptor{Digest: digest})
}

// ChangeExpiration lets the tag name end at a time, in seconds, or never if that is
// zero. It gives what Quay made of it, read back: not before an hour, and not behind
// 104 weeks, from the moment when the tag was set. A time that is past is an error.
// A tag that is moved loses its expiry.
//
// Errors are those of [Client.DeleteTag].
//
// Source: PUT /api/v1/repository/{repository}/tag/{tag}.
func (c *Client) ChangeExpiration(ctx context.Context, repo, name string, at time.Time) (time.Time, error) {
	end, err := c.changeExpiration(ctx, repo, name, at)
	return end, oci.Wrap(err, "set expiry of tag", c.ref(repo)+":"+name, oci.Descriptor{})
}

func (c *Client) changeExpiration(ctx context.Context, repo, name string, at time.Time) (time.Time, error) {
	body := map[string]*int64{"expiration": nil} // null is never; a string would be refused
	if !at.IsZero() {
		seconds := at.Unix()
		body["expiration"] = &seconds
	}
	if _, err := c.writeTag(ctx, http.MethodPut, repo, name, "", body); err != nil {
		return time.Time{}, err
	}
	t, err := c.tag(ctx, repo, name)
	return t.End, err
}

// writeTag sends a write about one tag.
func (c *Client) writeTag(ctx context.Context, method, repo, name, action string, body any) (answer, error) {
	if _, _, err := splitRepository(repo); err != nil {
		return answer{}, err
	}
	if !oci.ValidTag(name) {
		return answer{}, oci.Usage(fmt.Sprintf("%q is no tag", name))
	}
	// No slash at the end: with one Quay takes it for a nested repository.
	parts := []string{"repository", repo, "tag", name}
	if action != "" {
		parts = append(parts, action)
	}
	a, err := c.do(ctx, request{method: method, path: apiPath(parts...), body: body})
	return a, explainWrite(err)
}

// explainWrite says what Quay means by its answers to writes. Without a token that
// it knows it answers 403, and words about CSRF; 503 is a repository, or a whole
// Quay, that takes no writes for now; 409 is an immutable tag.
func explainWrite(err error) error {
	e, ok := errors.AsType[*StatusError](err)
	switch {
	case !ok:
		return err
	case e.Status == http.StatusForbidden && strings.HasPrefix(e.Message, "CSRF"):
		return fmt.Errorf("%w: it needs an API token, an OAuth application token: %w", oci.ErrDenied, err)
	case e.Status == http.StatusConflict:
		return fmt.Errorf("%w: %w", ErrImmutable, err)
	case e.Status == http.StatusServiceUnavailable && readOnly(e.Message):
		return fmt.Errorf("%w: this is a state that somebody has to change, not an outage%s: %w", oci.ErrDenied, stateHint(e.Message), err)
	}
	return err
}

// readOnly tells the words of a 503 that is no outage.
func readOnly(message string) bool {
	m := strings.ToLower(message)
	return strings.Contains(m, "read only") || strings.Contains(m, "read-only") || strings.Contains(m, "mirror mode")
}

// stateHint names the state of the repository by the number at the end of the words.
func stateHint(message string) string {
	i := strings.LastIndex(message, ": ")
	if i < 0 {
		return ""
	}
	switch message[i+2:] {
	case "1":
		return " (the repository is read-only)"
	case "2":
		return " (the repository is a mirror)"
	case "4":
		return " (the organisation is a mirror)"
	}
	return ""
}
