package filter_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

func TestNormalizeTimestamps(t *testing.T) {
	at := func(sec, nsec int64) time.Time { return time.Unix(sec, nsec) }
	tests := []struct {
		name string
		spec string
		env  string
		in   tar.Header
		want tar.Header
	}{
		{"0 by default", "normalize-timestamps", "", tar.Header{ModTime: at(9, 9)}, tar.Header{ModTime: at(0, 0)}},
		{"SOURCE_DATE_EPOCH by default", "normalize-timestamps", "7", tar.Header{ModTime: at(9, 0)}, tar.Header{ModTime: at(7, 0)}},
		{"ts beats SOURCE_DATE_EPOCH", "normalize-timestamps:ts=0", "never", tar.Header{ModTime: at(9, 0)}, tar.Header{ModTime: at(0, 0)}},
		{"earlier files too", "normalize-timestamps:ts=7", "", tar.Header{ModTime: at(5, 0)}, tar.Header{ModTime: at(7, 0)}},
		{"clamp leaves earlier files", "normalize-timestamps:ts=7,mode=clamp", "", tar.Header{ModTime: at(5, 5)}, tar.Header{ModTime: at(5, 5)}},
		{"clamp sets later files", "normalize-timestamps:ts=7,mode=clamp", "", tar.Header{ModTime: at(7, 1)}, tar.Header{ModTime: at(7, 0)}},
		{"other times go, xattrs stay", "normalize-timestamps:ts=7", "",
			tar.Header{ModTime: at(7, 0), AccessTime: at(1, 0), ChangeTime: at(2, 0), PAXRecords: map[string]string{
				"atime": "1", "ctime": "2", "LIBARCHIVE.creationtime": "3", "SCHILY.xattr.user.a": "b"}},
			tar.Header{ModTime: at(7, 0), PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}},
		{"so they do with clamp", "normalize-timestamps:ts=7,mode=clamp", "",
			tar.Header{ModTime: at(1, 0), PAXRecords: map[string]string{"LIBARCHIVE.creationtime": "3", "mtime": "1"}},
			tar.Header{ModTime: at(1, 0), PAXRecords: map[string]string{"mtime": "1"}}},
		{"the record of the old time goes", "normalize-timestamps:ts=7", "",
			tar.Header{ModTime: at(1, 5), PAXRecords: map[string]string{"mtime": "1.5", "x": "y"}},
			tar.Header{ModTime: at(7, 0), PAXRecords: map[string]string{"x": "y"}}},
	}
	for _, tt := range tests {
		f, err := filter.Parse(tt.spec, filter.Env{SourceDateEpoch: tt.env})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		tt.in.Name = "a"
		got := pass(t, []oci.EntryFilter{f.Entry}, "", &tt.in).entries[0].Header
		if !got.ModTime.Equal(tt.want.ModTime) || !got.AccessTime.Equal(tt.want.AccessTime) ||
			!got.ChangeTime.Equal(tt.want.ChangeTime) || !maps.Equal(got.PAXRecords, tt.want.PAXRecords) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSourceDateEpochIsChecked(t *testing.T) {
	if _, err := filter.Parse("normalize-timestamps", filter.Env{SourceDateEpoch: "today"}); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("got %v", err)
	}
}

// TestUntouchedEntriesPass: the very entry goes on, so that its layer can keep its blob.
func TestUntouchedEntriesPass(t *testing.T) {
	for _, spec := range []string{
		"normalize-timestamps:ts=5", "normalize-timestamps:ts=6,mode=clamp", "exclude:pattern=b", "exclude:pattern=b,compat=occystrap",
		"search:pattern=*", "chown:uid=3,gid=4", "strip-xattrs:keep=user.*", "strip-xattrs:only=security.*",
	} {
		h := &tar.Header{Name: "a", ModTime: time.Unix(5, 0), Uid: 3, Gid: 4, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}
		if got := pass(t, parse(t, spec).Entries, "", h); got.entries[0].Header != h {
			t.Errorf("%s: got another entry", spec)
		}
	}
}

func TestNormalizeConfig(t *testing.T) {
	const early, late = `"1999-12-31T00:00:00Z"`, `"2026-01-31T10:00:00.123456789+01:00"`
	tests := []struct {
		name             string
		spec             string
		created, history string
		wantCreated      string
		wantHistory      string
	}{
		{"left alone by default", "normalize-timestamps", late, `[ {"created":` + late + `}]`, late, `[ {"created":` + late + `}]`},
		{"set", "normalize-timestamps:config=true,ts=1000000000", late,
			`[{"x":1.0, "created":` + late + `,"created_by":"a & b"}, {"created" : ` + early + ` }, {"y":2}]`,
			`"2001-09-09T01:46:40Z"`,
			`[{"x":1.0, "created":"2001-09-09T01:46:40Z","created_by":"a & b"},{"created" : "2001-09-09T01:46:40Z" },{"y":2}]`},
		{"clamp", "normalize-timestamps:config=true,mode=clamp,ts=1000000000", early,
			`[{"created":` + late + `}, {"created" : ` + early + ` }]`, early,
			`[{"created":"2001-09-09T01:46:40Z"},{"created" : ` + early + ` }]`},
		{"nothing to clamp, no byte changed", "normalize-timestamps:config=true,mode=clamp,ts=1000000000", early,
			`[ {"created" : ` + early + ` } ]`, early, `[ {"created" : ` + early + ` } ]`},
	}
	for _, tt := range tests {
		img := &oci.Image{Config: map[string]json.RawMessage{"created": json.RawMessage(tt.created), "history": json.RawMessage(tt.history)}}
		if err := parse(t, tt.spec).Edit(t.Context(), img); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := string(img.Config["created"]); got != tt.wantCreated {
			t.Errorf("%s: created: got %s, want %s", tt.name, got, tt.wantCreated)
		}
		if got := string(img.Config["history"]); got != tt.wantHistory {
			t.Errorf("%s: history: got %s, want %s", tt.name, got, tt.wantHistory)
		}
	}
	img := &oci.Image{Config: map[string]json.RawMessage{"history": json.RawMessage(`{}`)}}
	if err := parse(t, "normalize-timestamps:config=1").Edit(t.Context(), img); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a history that is no list: %v", err)
	}
}
