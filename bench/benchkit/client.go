package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

const accept = "application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json,application/vnd.docker.distribution.manifest.list.v2+json"

// A desc names content, as OCI descriptors do.
type desc struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// A manifest is an image's or an index.
type manifest struct {
	Config    *desc  `json:"config"`
	Layers    []desc `json:"layers"`
	Manifests []desc `json:"manifests"`

	raw       []byte
	mediaType string
}

// blobs gives the layers, then the config.
func (m *manifest) blobs() []desc {
	all := append([]desc{}, m.Layers...)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return all
}

// A client speaks plain HTTP to registries without auth.
type client struct{ http *http.Client }

func newClient() client {
	return client{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, ReadBufferSize: 128 << 10, WriteBufferSize: 128 << 10}}}
}

// do sends a request to host's path; the caller closes the answer. size is that of body, if there is one.
func (c client) do(ctx context.Context, method, url string, body io.Reader, size int64, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

// ask sends a request and gives the whole answer, which must have the status want.
func (c client) ask(ctx context.Context, want int, method, url string, body []byte, header ...string) ([]byte, http.Header, error) {
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	r, err := c.do(ctx, method, url, rd, int64(len(body)), header...)
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && want != 0 && r.StatusCode != want {
		err = fmt.Errorf("%s %s: %s", method, url, r.Status)
	}
	return b, r.Header, err
}

// manifest gets one by tag or digest.
func (c client) manifest(ctx context.Context, host, repo, ref string) (*manifest, error) {
	raw, header, err := c.ask(ctx, http.StatusOK, http.MethodGet, "http://"+host+"/v2/"+repo+"/manifests/"+ref, nil, "Accept", accept)
	if err != nil {
		return nil, err
	}
	m := &manifest{raw: raw, mediaType: header.Get("Content-Type")}
	return m, json.Unmarshal(raw, m)
}

// walk calls do for the manifest of repo:ref and for those it lists.
func (c client) walk(ctx context.Context, host, repo, ref string, do func(ref string, m *manifest) error) error {
	m, err := c.manifest(ctx, host, repo, ref)
	if err != nil {
		return err
	}
	if err := do(ref, m); err != nil {
		return err
	}
	for _, d := range m.Manifests {
		if err := c.walk(ctx, host, repo, d.Digest, do); err != nil {
			return err
		}
	}
	return nil
}

// An image is one line of a list.
type image struct{ repo, tag string }

func (i image) String() string { return i.repo + ":" + i.tag }

// readList reads a file of "repository:tag" lines.
func readList(path string) ([]image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []image
	for line := range strings.FieldsSeq(string(data)) {
		i := strings.LastIndex(line, ":")
		if i < 0 {
			return nil, fmt.Errorf("%s: %q is no repository:tag", path, line)
		}
		list = append(list, image{line[:i], line[i+1:]})
	}
	return list, nil
}
