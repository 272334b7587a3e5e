package dockersave

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// An Archive is one of docker save's that is read. It is safe for concurrent
// use.
type Archive struct {
	// Images are those of manifest.json, in its order.
	Images []*Image
	// Unreadable are names in it that are no references.
	Unreadable []string

	file *tarfile.File

	mu      sync.Mutex
	configs map[string]*config // by the name of their member, behind links
	layers  map[string]*stored // likewise
}

// Read reads manifest.json of f, which it doesn't close. An archive without one
// is an error matching [oci.ErrUsage] that names f, also one that only docker
// before version 1.10 understands; a damaged one matches [oci.ErrInvalid].
func Read(f *tarfile.File) (*Archive, error) {
	a, err := read(f)
	return a, oci.Wrap(err, "read archive", f.Path(), oci.Descriptor{})
}

func read(f *tarfile.File) (*Archive, error) {
	if !f.Has(ManifestFile) {
		if f.Has(legacyFile) {
			return nil, oci.Usage(fmt.Sprintf("%s is of docker before version 1.10: it has no file %s; convert it with docker load and docker save", f.Path(), ManifestFile))
		}
		return nil, oci.Usage(fmt.Sprintf("%s is no archive of docker save: it has no file %s", f.Path(), ManifestFile))
	}
	if m, err := f.Lookup(ManifestFile); err == nil && m.Copies > 1 {
		return nil, fmt.Errorf("%w: %s is there %d times", oci.ErrInvalid, ManifestFile, m.Copies)
	}
	raw, err := f.ReadFile(ManifestFile, maxManifest)
	if err != nil {
		return nil, err
	}
	list, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: %s lists no image", oci.ErrInvalid, ManifestFile)
	}
	a := &Archive{file: f, configs: map[string]*config{}, layers: map[string]*stored{}}
	a.name(list)
	return a, nil
}

// name makes the images of list. Of several with one name the last one has it, as
// docker load leaves it.
func (a *Archive) name(list []Entry) {
	owner, refs := map[oci.Ref]int{}, make([][]oci.Ref, len(list))
	for n, e := range list {
		for _, tag := range e.RepoTags {
			ref, ok := parseTag(tag)
			if !ok {
				a.Unreadable = append(a.Unreadable, tag)
				continue
			}
			owner[ref], refs[n] = n, append(refs[n], ref)
		}
	}
	for n, e := range list {
		i := &Image{Entry: e, archive: a}
		i.load = sync.OnceValues(i.read)
		for _, ref := range refs[n] {
			if at, ok := owner[ref]; ok && at == n {
				i.Names = append(i.Names, ref)
				delete(owner, ref) // it may be there twice
			}
		}
		a.Images = append(a.Images, i)
	}
}

// Path gives the archive's name.
func (a *Archive) Path() string { return a.file.Path() }

// wrap lets errors tell the archive and what was done.
func (a *Archive) wrap(err error, op string, d oci.Descriptor) error {
	return oci.Wrap(err, op, a.Path(), d)
}

// digestOf gives the digest that a member is named by: <hex>.json, blobs/sha256/<hex>.
func digestOf(name string) oci.Digest {
	hex := strings.TrimSuffix(path.Base(name), ".json")
	if d := oci.Digest("sha256:" + hex); oci.ValidDigest(d) == nil {
		return d
	}
	return ""
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
