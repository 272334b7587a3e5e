package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/oci"
)

// place is an archive that is written to.
type place struct {
	path      string   // behind links
	name      *oci.Ref // from the URI: the one image; nil for any number
	basename  bool
	overwrite bool
	env       backend.Env
	writer    *dockersave.Writer

	loading sync.Mutex // held while the archive that is there is looked at
	loaded  bool

	mu      sync.Mutex
	was     fs.FileInfo                  // of the archive that is there; nil if there is none
	old     *dockersave.Archive          // likewise; nil of an empty file too
	ours    map[string]*dockersave.Image // in old, that this program put there: by reference
	tagged  map[string]string            // their references, by docker's name
	open    []*tarfile.File              // that old, or what was adopted, is in
	stream  bool                         // path is a pipe or a device
	begun   bool
	asked   map[string]bool             // references that destinations were opened for
	commits map[string]dockersave.Entry // by reference
	check   bool                        // read it back
	full    bool                        // with every layer
}

func newPlace(path string, name *oci.Ref, basename, overwrite bool, env backend.Env) *place {
	p := &place{path: path, name: name, basename: basename, overwrite: overwrite, env: env,
		asked: map[string]bool{}, commits: map[string]dockersave.Entry{}}
	dir := ""
	if p.stream = isStream(path); !p.stream {
		p.path = stage.Behind(path)
		dir = filepath.Dir(p.path)
	}
	p.writer = dockersave.NewWriter(dir)
	return p
}

// isStream reports whether path is a pipe, a device, or what the shell has opened
// already: that may be a file, but one to be written to and not replaced.
func isStream(path string) bool {
	for _, open := range []string{"/dev/stdout", "/dev/fd/", "/proc/"} {
		if strings.HasPrefix(filepath.Clean(path), open) {
			return true
		}
	}
	fi, err := os.Stat(path)
	return err == nil && !fi.Mode().IsRegular() && !fi.IsDir()
}

// Traits: a path with REF takes one image.
func (p *place) Traits() oci.Traits { return oci.Traits{Many: p.name == nil, Raw: true, Late: true} }

// SharedBlobs makes it an [oci.Shelf].
func (p *place) SharedBlobs() bool { return true }

// NameOf makes it an [oci.Namer]: docker's name of an image.
func (p *place) NameOf(name oci.Ref) string {
	if p.name != nil {
		name = *p.name
	}
	if tag := dockersave.RepoTag(name, p.basename); tag != "" {
		return tag
	}
	return name.Tagged()
}

// Image opens the destination of name. The REF of the URI, if there is one,
// takes its place. Errors match [oci.ErrRefused] where the file is no archive of
// docker save, or has that name for an image from elsewhere.
func (p *place) Image(ctx context.Context, name oci.Ref) (oci.Destination, error) {
	if p.name != nil {
		name = *p.name
	}
	fail := func(err error) (oci.Destination, error) {
		return nil, oci.Wrap(err, "open "+name.Tagged()+" in", p.path, oci.Descriptor{})
	}
	if err := p.look(ctx); err != nil {
		return fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	tag := p.tag(name)
	if from := p.tagged[tag]; tag != "" && from != "" && from != name.Tagged() && !p.overwrite {
		return fail(oci.Refuse(fmt.Sprintf("%s has %s as %s, whose place %s would take; use another file, or repo_tags=full", p.path, from, tag, name.Tagged())))
	}
	p.asked[name.Tagged()] = true
	return &destination{place: p, ref: name}, nil
}

// tag gives what docker is told that name is called, "" for nothing.
func (p *place) tag(name oci.Ref) string { return dockersave.RepoTag(name, p.basename) }

// tags is the list of it.
func (p *place) tags(name oci.Ref) []string {
	if tag := p.tag(name); tag != "" {
		return []string{tag}
	}
	return nil
}

// look looks at what is there, once.
func (p *place) look(ctx context.Context) error {
	p.loading.Lock()
	defer p.loading.Unlock()
	if p.loaded || p.stream {
		return nil
	}
	err := p.load(ctx)
	p.loaded = err == nil
	return err
}

// load reads the archive that is there. Layers of images that this program put
// into it are taken from there.
func (p *place) load(ctx context.Context) error {
	fi, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		fi, err = nil, nil
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.was, p.old, p.ours, p.tagged = fi, nil, map[string]*dockersave.Image{}, map[string]string{}
	p.mu.Unlock()
	switch {
	case fi == nil:
		return nil
	case fi.IsDir():
		return oci.Usage(p.path + " is a folder; name a file")
	case fi.Size() == 0:
		return nil
	}
	old, f, err := readOld(ctx, p.path)
	if err != nil && p.overwrite && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old, p.open = old, append(p.open, f)
	for _, i := range old.Images {
		if i.Source == nil {
			continue
		}
		p.writer.Adopt(i) // what can't be adopted is not there
		p.ours[i.Source.Reference] = i
		for _, tag := range i.RepoTags {
			p.tagged[tag] = i.Source.Reference
		}
	}
	return nil
}

// readOld reads the archive that would be added to.
func readOld(ctx context.Context, path string) (*dockersave.Archive, *tarfile.File, error) {
	f, err := tarfile.Open(ctx, path)
	if err == nil {
		var a *dockersave.Archive
		if a, err = dockersave.Read(f); err == nil {
			return a, f, nil
		}
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, oci.ErrUsage) || errors.Is(err, oci.ErrInvalid) || errors.Is(err, oci.ErrUnsupported) || errors.Is(err, oci.ErrTooLarge) {
		err = oci.Refuse(fmt.Sprintf("%s is there and can't be added to (%v); name another file, or ?overwrite=true", path, err))
	}
	return nil, nil, err
}

// find gives the image that the archive has as name now.
func (p *place) find(name oci.Ref) *dockersave.Image {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.ours[name.Tagged()]; i != nil && slices.Equal(i.RepoTags, p.tags(name)) {
		return i
	}
	return nil
}

// begin makes the folder, before the first write.
func (p *place) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.stream {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	p.begun = true
	return nil
}

// Close lets go of what was not finished.
func (p *place) Close() error {
	err := p.writer.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.open {
		err = errors.Join(err, f.Close())
	}
	p.open, p.old, p.ours = nil, nil, nil
	return oci.Wrap(err, "close archive", p.path, oci.Descriptor{})
}
