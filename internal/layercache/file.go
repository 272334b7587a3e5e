package layercache

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/quaymaster/quaymaster/internal/statefile"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxFileSize bounds what is read into memory.
	maxFileSize = 128 << 20
	// maxEntries bounds the entries that are kept, some 300 bytes each. Those that
	// were used longest ago go first.
	maxEntries = 100_000
	// resolution is how exactly the last use of an entry is kept: a run that adds
	// nothing shouldn't write the file each time.
	resolution = 24 * time.Hour
	// stamp is how Python's isoformat writes times of UTC.
	stamp = "2006-01-02T15:04:05.000000-07:00"

	version = 1
)

// A file is the JSON of a cache. rest are the keys that nobody here knows.
type file struct {
	layers map[string]json.RawMessage // occystrap's; values of others stay as they are
	ours   map[string]*made
	rest   map[string]json.RawMessage
}

// A v1 is an entry of occystrap, under the hex of the source's digest.
type v1 struct {
	Digest      oci.Digest    `json:"compressed_digest"`
	Size        int64         `json:"compressed_size"`
	MediaType   oci.MediaType `json:"media_type"`
	FiltersHash string        `json:"filters_hash"`
	Timestamp   string        `json:"timestamp"`
	// Ours are not known to occystrap, which keeps them as long as it has no
	// other result for the layer.
	DiffID oci.Digest `json:"diff_id,omitempty"`
	ID     string     `json:"quaymaster,omitempty"`
}

// A made is an entry of ours.
type made struct {
	MediaType oci.MediaType `json:"media_type"`
	Digest    oci.Digest    `json:"digest"`
	Size      int64         `json:"size"`
	DiffID    oci.Digest    `json:"diff_id"`
	Unchanged bool          `json:"unchanged,omitempty"`
	At        string        `json:"repository,omitempty"`
	Used      time.Time     `json:"used"`
}

func read(path string) (f file, err error) {
	err = statefile.Read(path, maxFileSize, func(r io.Reader) error { f, err = decode(r); return err })
	return f, err
}

func decode(r io.Reader) (file, error) {
	f := file{layers: map[string]json.RawMessage{}, ours: map[string]*made{}, rest: map[string]json.RawMessage{}}
	raw, err := io.ReadAll(r)
	if err != nil {
		return f, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return f, nil
	}
	if err := f.decode(raw); err != nil {
		return f, fmt.Errorf("%w: it is no layer cache of version %d, and stays as it is: %w", oci.ErrInvalid, version, err)
	}
	return f, nil
}

func (f *file) decode(raw []byte) error {
	if err := json.Unmarshal(raw, &f.rest); err != nil {
		return err
	}
	var v int
	if err := json.Unmarshal(f.rest["version"], &v); err != nil || v != version {
		return errors.Join(fmt.Errorf("version %s", f.rest["version"]), err)
	}
	if err := json.Unmarshal(f.rest["layers"], &f.layers); err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	if own, ok := f.rest["quaymaster"]; ok {
		if err := json.Unmarshal(own, &f.ours); err != nil {
			return fmt.Errorf("quaymaster: %w", err)
		}
	}
	if f.layers == nil || f.ours == nil {
		return errors.New("null")
	}
	maps.DeleteFunc(f.ours, func(_ string, m *made) bool { return m == nil })
	for _, key := range []string{"version", "layers", "quaymaster"} {
		delete(f.rest, key)
	}
	return nil
}

func (f *file) encode() ([]byte, error) {
	all := map[string]any{"version": version, "layers": f.layers}
	if len(f.ours) > 0 {
		all["quaymaster"] = f.ours
	}
	for k, v := range f.rest {
		all[k] = v
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	return append(raw, '\n'), err
}

// get gives the entry i, which is of layer.
func (f *file) get(layer oci.Digest, i string) (Entry, bool) {
	m := f.ours[i]
	if m == nil {
		var old v1
		hex, ok := strings.CutPrefix(string(layer), "sha256:")
		if !ok || json.Unmarshal(f.layers[hex], &old) != nil || old.ID != i {
			return Entry{}, false // also what occystrap made: nobody says its diffID
		}
		m = &made{MediaType: old.MediaType, Digest: old.Digest, Size: old.Size, DiffID: old.DiffID, Unchanged: old.Digest == layer}
	}
	if oci.ValidDigest(m.Digest) != nil || oci.ValidDigest(m.DiffID) != nil || m.Size < 0 || m.Unchanged && m.Digest != layer {
		return Entry{}, false
	}
	return Entry{
		Desc:   oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size},
		DiffID: m.DiffID, Unchanged: m.Unchanged, At: m.At,
	}, true
}

// set enters e as entry i and reports whether that changes anything.
func (f *file) set(i string, of source, e Entry) bool {
	now := made{MediaType: e.Desc.MediaType, Digest: e.Desc.Digest, Size: e.Desc.Size, DiffID: e.DiffID, Unchanged: e.Unchanged, At: e.At, Used: of.made.UTC().Truncate(time.Second)}
	changed := true
	if before := f.ours[i]; before != nil {
		same := *before
		same.Used = now.Used
		changed = same != now || now.Used.Sub(before.Used) >= resolution
	}
	if changed {
		f.ours[i] = &now
	}
	hex, ok := strings.CutPrefix(string(of.digest), "sha256:")
	if !ok || e.Specs == nil || e.Codec != "gzip" && e.Codec != "zstd" {
		return changed
	}
	old := v1{Digest: e.Desc.Digest, Size: e.Desc.Size, MediaType: e.Desc.MediaType, FiltersHash: Hash(e.Specs, e.Codec), DiffID: e.DiffID, ID: i}
	var before v1
	if json.Unmarshal(f.layers[hex], &before) == nil {
		if before.Timestamp = ""; before == old {
			return changed
		}
	}
	old.Timestamp = of.made.UTC().Format(stamp)
	raw, err := json.Marshal(old)
	if err != nil {
		return changed
	}
	f.layers[hex] = raw
	return true
}

// touch notes that entry i was used, and reports whether that is worth a write.
func (f *file) touch(i string, when time.Time) bool {
	m := f.ours[i]
	if m == nil || when.Sub(m.Used) < resolution {
		return false
	}
	m.Used = when.UTC().Truncate(time.Second)
	return true
}

// trim keeps the n entries of ours that were used last.
func (f *file) trim(n int) {
	if len(f.ours) <= n {
		return
	}
	type use struct {
		id   string
		when time.Time
	}
	var all []use
	for i, m := range f.ours {
		all = append(all, use{i, m.Used})
	}
	slices.SortFunc(all, func(a, b use) int { return cmp.Or(b.when.Compare(a.when), cmp.Compare(a.id, b.id)) })
	for _, u := range all[n:] {
		delete(f.ours, u.id)
	}
}

// pythonString writes s as Python's json.dumps does: ASCII only.
func pythonString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can be
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case r < 0x80:
			out.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
