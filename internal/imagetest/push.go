package imagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Push puts img into repo of the registry at base ("http://127.0.0.1:5000") by
// plain HTTP, under tag, or by digest where tag is "". auth is the
// Authorization header, "" for none.
func (img Image) Push(ctx context.Context, base, repo, tag, auth string) error {
	for _, c := range img.Children {
		if err := c.Push(ctx, base, repo, "", auth); err != nil {
			return err
		}
	}
	for d, b := range img.Blobs {
		resp, err := send(ctx, "POST", base+"/v2/"+repo+"/blobs/uploads/", "", nil, auth, http.StatusAccepted)
		if err != nil {
			return err
		}
		loc, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
		if err != nil {
			return err
		}
		q := loc.Query()
		q.Set("digest", string(d))
		loc.RawQuery = q.Encode()
		if _, err := send(ctx, "PUT", loc.String(), "application/octet-stream", b, auth, http.StatusCreated); err != nil {
			return err
		}
	}
	if tag == "" {
		tag = string(img.Desc.Digest)
	}
	_, err := send(ctx, "PUT", base+"/v2/"+repo+"/manifests/"+url.PathEscape(tag), img.Desc.MediaType, img.Raw, auth, http.StatusCreated)
	return err
}

func send(ctx context.Context, method, u, contentType string, body []byte, auth string, want int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %s", method, u, resp.Status, text)
	}
	return resp, nil
}
