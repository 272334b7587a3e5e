package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// tagsAtQuay asks Quay's API which tags of repo begin with prefix, and gives
// their references with their digests.
func tagsAtQuay(ctx context.Context, base, host, repo, prefix string) (map[string]oci.Digest, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/repository/"+repo+"/tag/?onlyActiveTags=true&limit=100", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("tags of %s: %s: %s", repo, resp.Status, body)
	}
	var page struct {
		Tags []struct {
			Name   string     `json:"name"`
			Digest oci.Digest `json:"manifest_digest"`
		} `json:"tags"`
		More bool `json:"has_additional"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, err
	}
	if page.More {
		return nil, fmt.Errorf("tags of %s: more than a page", repo)
	}
	tags := map[string]oci.Digest{}
	for _, t := range page.Tags {
		if strings.HasPrefix(t.Name, prefix) {
			tags[host+"/"+repo+":"+t.Name] = t.Digest
		}
	}
	return tags, nil
}
