package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// hidden is the folder for what isn't whole yet, in a place that is written to.
const hidden = ".quaymaster"

// found is what there is in a folder, by our own reading of it.
type found struct {
	names map[string]oci.Digest // full references, and the source's digest of each
	blobs map[oci.Digest]bool   // by the hash of their bytes
	wrong []string              // what under a final name isn't whole
	temp  []string              // files below hidden
}

func (f *found) errorf(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// A keeper is a kind of place in a folder. walk reads it all and hashes every
// blob; a folder that isn't there is empty. kept gives the digest under which it
// keeps the blob b. list is the file with the names, and each has entry once.
type keeper struct {
	name, scheme string
	list, entry  string
	walk         func(t testing.TB, folder string) found
	kept         func(b []byte) oci.Digest
}

var keepers = []keeper{
	{"ocidir", "ocidir://", "index.json", `"org.opencontainers.image.ref.name"`, walkLayout, digest.FromBytes},
	{"dir", "dir://", "catalog.json", `"manifest-`, walkDir, unpacked},
}

// unpacked is the digest of what is in b, if b is gzip-ed, or of b.
func unpacked(b []byte) oci.Digest {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return digest.FromBytes(b)
	}
	d, err := digest.FromReader(z)
	if err != nil {
		return digest.FromBytes(b)
	}
	return d
}

// readAll gives the content of every file below folder by name, without the
// hidden ones, and what is found of a folder that was looked at no further.
func readAll(t testing.TB, folder string) (files map[string][]byte, f found) {
	t.Helper()
	files, f = map[string][]byte{}, found{names: map[string]oci.Digest{}, blobs: map[oci.Digest]bool{}}
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case name == "." && errors.Is(err, fs.ErrNotExist):
			return fs.SkipAll
		case err != nil:
			return err
		case strings.HasPrefix(name, hidden):
			if !e.IsDir() {
				f.temp = append(f.temp, name)
			}
			return nil
		case e.IsDir():
			return nil
		}
		files[name], err = os.ReadFile(filepath.Join(folder, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, f
}

func walkLayout(t testing.TB, folder string) found {
	t.Helper()
	files, f := readAll(t, folder)
	for name, b := range files {
		switch parts := strings.Split(name, "/"); {
		case len(parts) == 3 && parts[0] == "blobs":
			want := digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2])
			if got := want.Algorithm().FromBytes(b); got != want {
				f.errorf("%s holds %d bytes with %s", name, len(b), got)
			}
			f.blobs[want] = true
		case name == "oci-layout" && json.Valid(b), name == "index.json":
		default:
			f.errorf("%s doesn't belong there: %d bytes", name, len(b))
		}
	}
	var index struct{ Manifests []oci.Descriptor }
	if raw, ok := files["index.json"]; !ok {
		return f
	} else if err := json.Unmarshal(raw, &index); err != nil {
		f.errorf("index.json: %v", err)
	}
	for _, d := range index.Manifests {
		name := d.Annotations["org.opencontainers.image.ref.name"]
		if _, twice := f.names[name]; twice {
			f.errorf("index.json names %s twice", name)
		}
		if err := whole(files, d); err != nil {
			f.errorf("%s: %v", name, err)
		}
		f.names[name] = d.Digest
	}
	return f
}

// whole looks whether all that manifest d needs is among files.
func whole(files map[string][]byte, d oci.Descriptor) error {
	at := func(d oci.Descriptor) string {
		return path.Join("blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	m, err := oci.ParseManifest(d.MediaType, files[at(d)])
	if err != nil {
		return err
	}
	for _, c := range m.Manifests {
		if err := whole(files, c); err != nil {
			return err
		}
	}
	for _, b := range m.Blobs() {
		if got, ok := files[at(b)]; !ok || int64(len(got)) != b.Size {
			return fmt.Errorf("%s has %d bytes, want %d", b.Digest, len(got), b.Size)
		}
	}
	return nil
}

func walkDir(t testing.TB, folder string) found {
	t.Helper()
	files, f := readAll(t, folder)
	catalog := map[string]map[string]string{}
	if raw, ok := files["catalog.json"]; ok {
		if err := json.Unmarshal(raw, &catalog); err != nil {
			f.errorf("catalog.json: %v", err)
		}
	}
	for name, b := range files {
		hex := strings.TrimSuffix(strings.TrimSuffix(name, "/layer.tar"), ".json")
		switch {
		case len(hex) == 64:
			if got := digest.FromBytes(b); got.Encoded() != hex {
				f.errorf("%s holds %d bytes with %s", name, len(b), got)
			}
			f.blobs[digest.NewDigestFromEncoded(digest.SHA256, hex)] = true
		case name == "catalog.json", strings.HasPrefix(name, "manifest") && json.Valid(b):
		default:
			f.errorf("%s doesn't belong there: %d bytes", name, len(b))
		}
	}
	for image, tags := range catalog {
		for tag, file := range tags {
			ref, d, err := wholeInDir(files, file)
			if err == nil && !strings.HasSuffix(ref, "/"+image+":"+tag) {
				err = errors.New("it is " + ref)
			}
			if err != nil {
				f.errorf("%s:%s in %s: %v", image, tag, file, err)
			}
			f.names[ref] = d
		}
	}
	return f
}

// wholeInDir reads the manifest file name and looks whether all that it needs is
// among files.
func wholeInDir(files map[string][]byte, name string) (ref string, d oci.Digest, err error) {
	var list []struct {
		Config string
		Layers []string
		Source struct {
			Reference string
			Digest    oci.Digest
		}
	}
	if err := json.Unmarshal(files[name], &list); err != nil || len(list) != 1 {
		return "", "", fmt.Errorf("%d entries, %w", len(list), err)
	}
	m := list[0]
	var config struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[m.Config], &config); err != nil {
		return "", "", fmt.Errorf("config %s: %w", m.Config, err)
	}
	if len(m.Layers) != len(config.RootFS.DiffIDs) {
		return "", "", fmt.Errorf("%d layers, the config has %d", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for i, id := range config.RootFS.DiffIDs {
		if want := id.Encoded() + "/layer.tar"; m.Layers[i] != want || files[want] == nil {
			return "", "", fmt.Errorf("layer %d is %s with %d bytes, want %s", i, m.Layers[i], len(files[want]), want)
		}
	}
	return m.Source.Reference, m.Source.Digest, nil
}

// complete looks whether folder holds exactly the images want, whole, and no leftovers.
func (k keeper) complete(t testing.TB, folder string, want map[string]oci.Digest) {
	t.Helper()
	f := k.walk(t, folder)
	for _, w := range f.wrong {
		t.Error(w)
	}
	for name, d := range want {
		if f.names[name] != d {
			t.Errorf("%s is %q, want %s", name, f.names[name], d)
		}
	}
	if len(f.names) != len(want) {
		t.Errorf("there are %d names, want %d", len(f.names), len(want))
	}
	if _, err := os.Lstat(filepath.Join(folder, hidden)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the hidden folder stays, with %q: %v", f.temp, err)
	}
}

// What the other tests find is worth as much as this.
func TestWalkSeesDamage(t *testing.T) {
	q := startQuay(t, quaytest.Options{}, nil)
	q.fill(t, 2, 5000)
	for _, k := range keepers {
		t.Run(k.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "out")
			processed(t, q.source(), k.scheme+folder)
			k.complete(t, folder, q.names())
			files, _ := readAll(t, folder)
			for name, b := range files {
				file := filepath.Join(folder, name)
				if err := os.WriteFile(file, b[:len(b)/2], 0o644); err != nil {
					t.Fatal(err)
				}
				if f := k.walk(t, folder); len(f.wrong) == 0 {
					t.Errorf("half of %s isn't seen", name)
				}
				if err := os.WriteFile(file, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			k.complete(t, folder, q.names())
		})
	}
}
