package filter_test

import (
	"archive/tar"
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"
)

func TestStripXattrs(t *testing.T) {
	all := map[string]string{
		"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x00", "LIBARCHIVE.xattr.user.b%2Ec": "Mg",
		"SCHILY.acl.access": "user::rw-", "SCHILY.acl.default": "user::rw-", "SCHILY.acl.ace": "x", "RHT.security.selinux": "u:r:t",
		"comment": "no attribute", "SCHILY.dev": "7",
	}
	rest := []string{"SCHILY.dev", "comment"}
	tests := []struct {
		name, spec string
		want       []string
	}{
		{"all", "strip-xattrs", rest},
		{"but some", "strip-xattrs:keep=security.capability,user.b.?", append([]string{"LIBARCHIVE.xattr.user.b%2Ec", "SCHILY.xattr.security.capability"}, rest...)},
		{"only some", "strip-xattrs:only=user.*,system.*,security.*", rest},
		{"ACLs by their attributes' names", "strip-xattrs:keep=system.posix_acl_*", append([]string{"SCHILY.acl.access", "SCHILY.acl.default"}, rest...)},
		{"SELinux", "strip-xattrs:only=*,keep=*,only=security.selinux", slices.Collect(maps.Keys(all))},
		{"only, but some", "strip-xattrs:only=security.*,keep=*.capability", slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(k string) bool { return k == "RHT.security.selinux" })},
	}
	for _, tt := range tests {
		h := &tar.Header{Name: "a", PAXRecords: maps.Clone(all)}
		got := slices.Sorted(maps.Keys(pass(t, parse(t, tt.spec).Entries, "", h).entries[0].Header.PAXRecords))
		if slices.Sort(tt.want); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestChown(t *testing.T) {
	tests := []struct {
		name, spec string
		in, want   tar.Header
	}{
		{"both", "chown:uid=0,gid=0", tar.Header{Uid: 1, Gid: 2, Uname: "u", Gname: "g"}, tar.Header{}},
		{"user only", "chown:uid=7", tar.Header{Uid: 1, Gid: 2, Uname: "u", Gname: "g"}, tar.Header{Uid: 7, Gid: 2, Gname: "g"}},
		{"group only", "chown:gid=7", tar.Header{Uid: 1, Gid: 2, Uname: "u", Gname: "g"}, tar.Header{Uid: 1, Gid: 7, Uname: "u"}},
		{"a name beside the right number", "chown:uid=1", tar.Header{Uid: 1, Uname: "u"}, tar.Header{Uid: 1}},
		{"the largest", "chown:uid=4294967294", tar.Header{}, tar.Header{Uid: 4294967294}},
		{"records of the old", "chown:uid=1,gid=1", tar.Header{PAXRecords: map[string]string{"uid": "0", "uname": "ü", "gid": "0", "gname": "ü"}}, tar.Header{Uid: 1, Gid: 1}},
	}
	for _, tt := range tests {
		tt.in.Name = "a"
		got := pass(t, parse(t, tt.spec).Entries, "", &tt.in).entries[0].Header
		if got.Uid != tt.want.Uid || got.Gid != tt.want.Gid || got.Uname != tt.want.Uname || got.Gname != tt.want.Gname || len(got.PAXRecords) > 0 {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestChainInOrder: the first filter sees what the source has.
func TestChainInOrder(t *testing.T) {
	c := parse(t, "normalize-timestamps:ts=7", "exclude:pattern=b", "chown:uid=1,gid=1", "strip-xattrs")
	want := []string{"normalize-timestamps/1:timestamp=7", "exclude/1:pattern=b", "chown/1:uid=1,gid=1", "strip-xattrs/1:only=*"}
	if got := c.IDs(); !slices.Equal(got, want) || !c.Changes || c.Looks || c.Empty() {
		t.Errorf("got %q, changes %v, looks %v, empty %v", got, c.Changes, c.Looks, c.Empty())
	}
	c = parse(t, "search:pattern=a")
	if c.Changes || !c.Looks || c.Empty() {
		t.Errorf("a search: changes %v, looks %v, empty %v", c.Changes, c.Looks, c.Empty())
	}
	if c := parse(t); !c.Empty() || c.Changes || c.Looks {
		t.Errorf("no filters: %+v", c)
	}
}

// TestTwiceTheSame: what filters make of an entry can be written, and is the same each time.
func TestTwiceTheSame(t *testing.T) {
	c := parse(t, "normalize-timestamps:ts=7", "exclude:pattern=b", "chown:uid=1,gid=1", "strip-xattrs:keep=security.*,user.*")
	headers := func() []*tar.Header {
		return []*tar.Header{
			{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(3, 4), Format: tar.FormatPAX},
			{Name: "d/f", Typeflag: tar.TypeReg, Uname: "ü", AccessTime: time.Unix(1, 0), ChangeTime: time.Unix(1, 0), Format: tar.FormatGNU},
			{Name: "d/c", Typeflag: tar.TypeReg, PAXRecords: map[string]string{
				"SCHILY.xattr.security.capability": "\x01\x00", "SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "2", "atime": "1"}},
			{Name: "b/x", Typeflag: tar.TypeReg},
		}
	}
	var tars [2]bytes.Buffer
	for i := range tars {
		w := tar.NewWriter(&tars[i])
		for _, e := range pass(t, c.Entries, "", headers()...).entries {
			h := *e.Header
			h.Format = tar.FormatUnknown
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(tars[0].Bytes(), tars[1].Bytes()) {
		t.Error("two passes over one layer gave different bytes")
	}
	r := tar.NewReader(&tars[0])
	for _, want := range []tar.Format{tar.FormatUSTAR, tar.FormatUSTAR, tar.FormatPAX} {
		if h, err := r.Next(); err != nil || h.Format != want {
			t.Errorf("got %+v, %v; want format %v", h, err, want)
		}
	}
}
