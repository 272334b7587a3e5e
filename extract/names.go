package extract

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// clean gives the path that an entry called name has below the root, "" for the
// root, and whether name would lead out of it.
func clean(name string) (rel string, escapes bool) {
	plain := path.Clean(strings.TrimLeft(name, "/"))
	return strings.TrimPrefix(path.Clean("/"+name), "/"), plain == ".." || strings.HasPrefix(plain, "../")
}

func depth(rel string) int { return strings.Count(rel, "/") }

// A mark says what an entry does to the layers below.
type mark int

const (
	markNone     mark = iota
	markWhiteout      // removes the path that comes with it
	markOpaque        // removes what the directory that comes with it has from below
	markOther         // a storage driver's bookkeeping, or no name: nothing
)

const whiteout = ".wh."

func markOf(rel string) (mark, string) {
	dir, base := path.Split(rel)
	dir = strings.TrimSuffix(dir, "/")
	if strings.HasPrefix(dir, whiteout) || strings.Contains(dir, "/"+whiteout) {
		return markOther, rel
	}
	name, ok := strings.CutPrefix(base, whiteout)
	switch {
	case !ok:
		return markNone, rel
	case name == whiteout+".opq":
		return markOpaque, dir
	case name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteout):
		return markOther, rel
	}
	return markWhiteout, path.Join(dir, name)
}

// resolve gives where rel is, with all links on the way followed within the root.
// What isn't there yet is taken as it is written.
func (e *extractor) resolve(rel string) (string, error) {
	if rel == "" {
		return "", nil
	}
	if at, ok := e.dirs[rel]; ok {
		return at, nil
	}
	full, err := securejoin.SecureJoinVFS(e.dir, rel, e.fs)
	if err == nil {
		full, err = filepath.Rel(e.dir, full)
	}
	switch {
	case errors.Is(err, unix.ELOOP):
		return "", fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	case err != nil:
		return "", err
	case full == ".":
		return "", nil
	}
	return full, nil
}

// split gives the directory of rel, resolved, and the last part, which isn't
// followed.
func (e *extractor) split(rel string) (parent, base string, err error) {
	dir, base := path.Split(rel)
	parent, err = e.resolve(strings.TrimSuffix(dir, "/"))
	return parent, base, err
}

// maxDirs bounds what dirOf remembers.
const maxDirs = 4096

// dirOf gives where the directory rel is, and makes it if it isn't there. Entries
// lie side by side, and to follow a path takes as many looks as it has parts; so
// it is remembered, until something on the way may have become something else.
func (e *extractor) dirOf(rel string) (string, error) {
	if at, ok := e.dirs[rel]; ok {
		return at, nil
	}
	at, err := e.resolve(rel)
	if err == nil {
		err = e.makeParents(at, false)
	}
	if err != nil {
		return "", err
	}
	if len(e.dirs) >= maxDirs {
		clear(e.dirs)
	}
	e.dirs[rel] = at
	return at, nil
}

// abs gives the path of rel on the machine.
func (e *extractor) abs(rel string) string { return filepath.Join(e.dir, rel) }

// lstat gives nil if there is nothing at rel.
func (e *extractor) lstat(rel string) (fs.FileInfo, error) {
	fi, err := e.fs.Lstat(e.abs(rel))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return fi, err
}

func isDir(fi fs.FileInfo) bool { return fi != nil && fi.IsDir() }

// makeParents sees to it that rel, which resolve gave, is a directory. What has
// no entry gets the mode, owner and time of the layer below, else 0755, root and
// 1970, so that the same layers make the same file system. scaffold says that it is
// for a whiteout.
func (e *extractor) makeParents(rel string, scaffold bool) error {
	if fi, err := e.lstat(rel); err != nil || isDir(fi) {
		return err
	}
	for i := 0; i <= len(rel); i++ {
		if i < len(rel) && rel[i] != '/' {
			continue
		}
		fi, err := e.lstat(rel[:i])
		if err != nil {
			return err
		}
		if isDir(fi) {
			continue
		}
		h, err := e.lowerDir(rel[:i])
		if err == nil {
			err = e.put(rel[:i], h, empty{})
		}
		if scaffold {
			e.over.scaffold[rel[:i]] = struct{}{}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A pathSet is a set of paths. It keeps hashes with a seed that nobody knows.
type pathSet map[uint64]struct{}

var pathSeed = maphash.MakeSeed()

func hashPath(rel string) uint64 { return maphash.String(pathSeed, rel) }

func (s pathSet) has(rel string) bool {
	_, ok := s[hashPath(rel)]
	return ok
}

func (s pathSet) add(rel string) { s[hashPath(rel)] = struct{}{} }

// addAll adds rel and the directories above it.
func (s pathSet) addAll(rel string) {
	for {
		h := hashPath(rel)
		if _, ok := s[h]; ok {
			return // and those above are there
		}
		s[h] = struct{}{}
		if rel == "" {
			return
		}
		rel = parentOf(rel)
	}
}
