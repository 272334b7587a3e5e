package layercache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/internal/statefile"
	"github.com/quaymaster/quaymaster/oci"
)

// An Entry is what filters made of a layer.
type Entry struct {
	Desc   oci.Descriptor // media type, digest and size of the result
	DiffID oci.Digest
	// Unchanged says that the filters left every entry as it was, and that the
	// source's blob stands. Desc is the source's then.
	Unchanged bool
	// At is the repository that the blob was put into, host/path; "" if it wasn't
	// a registry.
	At string
	// Specs are the filters as the user wrote them, by which occystrap knows
	// them; nil keeps the entry out of its part of the file.
	Specs []string
	// Codec is gzip, zstd or none, for the same.
	Codec string
}

// A Cache is a file and what is to be added to it. It is safe for concurrent use.
type Cache struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	file  file
	added map[string]Entry  // by id
	of    map[string]source // of added and used
	used  map[string]bool   // ids
}

// source is the layer of an entry.
type source struct {
	digest oci.Digest
	made   time.Time
}

// Open reads the cache at path. A file that isn't there is an empty cache. What
// is no layer cache of version 1 is an error matching [oci.ErrInvalid], so that
// it isn't overwritten.
func Open(path string) (*Cache, error) {
	c := &Cache{path: path, now: time.Now, added: map[string]Entry{}, of: map[string]source{}, used: map[string]bool{}}
	var err error
	if c.file, err = read(path); err != nil {
		return nil, oci.Wrap(err, "read layer cache", path, oci.Descriptor{})
	}
	return c, nil
}

// id names an entry: the source layer, and how it was made.
func id(layer oci.Digest, how string) string {
	sum := sha256.Sum256([]byte(how))
	return string(layer) + " " + hex.EncodeToString(sum[:16])
}

// Get gives what the filters, codecs and versions that how names made of layer.
func (c *Cache) Get(layer oci.Digest, how string) (Entry, bool) {
	i := id(layer, how)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.added[i]; ok {
		return e, true
	}
	e, ok := c.file.get(layer, i)
	if ok {
		c.used[i], c.of[i] = true, source{digest: layer, made: c.now()}
	}
	return e, ok
}

// Put notes that how made e of layer.
func (c *Cache) Put(layer oci.Digest, how string, e Entry) {
	i := id(layer, how)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added[i], c.of[i] = e, source{digest: layer, made: c.now()}
}

// Save adds what was put to the file, beside what other processes have added
// since, and replaces it as a whole. Nothing to add writes nothing.
func (c *Cache) Save(ctx context.Context) error {
	return oci.Wrap(c.save(ctx), "write layer cache", c.path, oci.Descriptor{})
}

func (c *Cache) save(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.added)+len(c.used) == 0 {
		return nil
	}
	var f file
	err := statefile.Update(ctx, c.path, maxFileSize, func(r io.Reader) (changed bool, err error) {
		if f, err = decode(r); err != nil {
			return false, err
		}
		for i, e := range c.added {
			changed = f.set(i, c.of[i], e) || changed
		}
		for i := range c.used {
			changed = f.touch(i, c.of[i].made) || changed
		}
		f.trim(maxEntries)
		return changed, nil
	}, func(w io.Writer) error {
		raw, err := f.encode()
		if err == nil {
			_, err = w.Write(raw)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.file, c.added, c.used, c.of = f, map[string]Entry{}, map[string]bool{}, map[string]source{}
	return nil
}

// Hash is occystrap's filters_hash: the filters as they were written, and the
// compression of the result.
func Hash(specs []string, codec string) string {
	if len(specs) == 0 && codec == "gzip" {
		return "none"
	}
	var b strings.Builder
	b.WriteString(`{"compression":` + pythonString(codec) + `,"filters":[`)
	for i, s := range specs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pythonString(s))
	}
	b.WriteString("]}")
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])[:16]
}
