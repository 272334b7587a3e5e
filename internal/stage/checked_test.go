package stage_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// vouching says of itself that it checks, and counts how often it is believed.
type vouching struct {
	io.ReadCloser
	asked int
}

func (v *vouching) Checks(oci.Digest) bool { v.asked++; return true }

// louder changes what it gives on.
type louder struct{ io.ReadCloser }

func (l louder) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	copy(p, strings.ToUpper(string(p[:n])))
	return n, err
}

func TestPutOfCheckedContent(t *testing.T) {
	want := desc("body")
	verified := func(s string) io.ReadCloser { return oci.Verify(io.NopCloser(strings.NewReader(s)), want) }
	begun := verified("Xbody")
	tests := []struct {
		name string
		rc   io.ReadCloser
		kind error
	}{
		{"right", verified("body"), nil},
		{"wrong bytes", verified("BODY"), oci.ErrDigestMismatch},
		{"too short", verified("bod"), oci.ErrDigestMismatch},
		{"too long", verified("body and more"), oci.ErrDigestMismatch},
		{"changed behind the check", louder{verified("body")}, oci.ErrDigestMismatch},
		{"too short for one that is believed", &vouching{ReadCloser: io.NopCloser(strings.NewReader("bod"))}, oci.ErrDigestMismatch},
		{"the rest of a check", begun, oci.ErrDigestMismatch},
	}
	if _, err := begun.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := open(t, t.TempDir()).Put(t.Context(), oci.Blob{Desc: want, Open: func(context.Context) (io.ReadCloser, error) { return tt.rc, nil }}, blobName)
			if !errors.Is(err, tt.kind) || err == nil && (d.Digest != want.Digest || d.Size != want.Size) {
				t.Errorf("got %s of %d bytes, %v; want %v", d.Digest, d.Size, err, tt.kind)
			}
		})
	}
}

// TestCheckedContentIsNotHashed: it is believed, once an attempt; what has no
// digest yet is not asked.
func TestCheckedContentIsNotHashed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		want  oci.Descriptor
		asked int
	}{
		{"known digest", desc("BODY"), 1},
		{"unknown digest", oci.Descriptor{Size: -1}, 0},
	} {
		v := &vouching{ReadCloser: io.NopCloser(strings.NewReader("body"))}
		d, err := stage.Attempt(t.Context(), oci.Blob{Desc: tt.want, Open: func(context.Context) (io.ReadCloser, error) { return v, nil }},
			func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		if tt.want.Digest == "" {
			tt.want = desc("body")
		}
		if err != nil || d.Digest != tt.want.Digest || v.asked != tt.asked {
			t.Errorf("%s: got %s, %v, asked %d times; want %s, asked %d times", tt.name, d.Digest, err, v.asked, tt.want.Digest, tt.asked)
		}
	}
}
