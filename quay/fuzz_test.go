package quay

import (
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// Whatever a server sends, what comes out is fit to be used in a path.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"repositories":[{"namespace":"o","name":"a/b","last_modified":null,"kind":"image"}],"next_page":"x"}`))
	f.Add([]byte(`{"tags":[{"name":"v1","start_ts":1,"end_ts":2.5,"manifest_digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":null}],"has_additional":true}`))
	f.Add([]byte(`{"repositories":[{}],"tags":[{"start_ts":"1","size":-1e99}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, a := request{path: "/x"}, answer{body: body}
		if p, err := decodeRepositories(r, a); err == nil {
			for _, raw := range *p.Repositories {
				if e, err := raw.repository("o"); err == nil && (!oci.ValidRepository(e.Path()) || e.Namespace != "o" || e.LastModified.Year() > 9999) {
					t.Errorf("accepted %+v", e)
				}
			}
		}
		if p, err := decodeTags(r, a); err == nil {
			for _, raw := range *p.Tags {
				if e, err := raw.tag(); err == nil && (!oci.ValidTag(e.Name) || oci.ValidDigest(e.Digest) != nil || e.Size < -1 || e.Start.Year() > 9999 || e.Start.Before(time.Time{})) {
					t.Errorf("accepted %+v", e)
				}
			}
		}
	})
}

// The words of an error are one bounded, printable line.
func FuzzErrorText(f *testing.F) {
	f.Add([]byte(`{"message":{"limit":"x\ny"}}`))
	f.Add([]byte("\x1b[2J"))
	f.Add([]byte(`{"detail":"a","error_type":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		kind, text := errorText(body)
		for _, s := range []string{kind, text} {
			if s != oneLine(s) || len(s) > maxMessage+len("…") {
				t.Errorf("%q", s)
			}
		}
	})
}
