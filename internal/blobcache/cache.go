package blobcache

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/internal/statefile"
	"github.com/quaymaster/quaymaster/oci"
)

// MinSize is the size in bytes from which a blob is worth an entry: what is
// smaller is sent as quickly as it is mounted.
const MinSize = 64 << 10

// A Cache is what a file says of one registry, and what is to be added to it. It
// is safe for concurrent use.
type Cache struct {
	path, host string
	now        func() time.Time

	mu   sync.Mutex
	file *table // of host alone
	// changed are the blobs that this run put, saw or missed, as they are now: by
	// their repositories, none if there is none left.
	changed map[key]places
}

// Open reads what the file at path says of host (host[:port]). A file that isn't
// there is an empty cache. What is no blob cache, or is damaged, is an error
// matching [oci.ErrInvalid], so that it isn't overwritten.
func Open(path, host string) (*Cache, error) {
	c := &Cache{path: path, host: host, now: time.Now, file: newTable(), changed: map[key]places{}}
	err := statefile.Read(path, maxFileSize, func(r io.Reader) error { return c.file.read(r, host) })
	if err != nil {
		return nil, oci.Wrap(err, "read blob cache", path, oci.Descriptor{})
	}
	c.file.sort()
	return c, nil
}

// Repositories gives where d may be: two at most, the surest first.
func (c *Cache) Repositories(d oci.Digest) []string {
	k, ok := keyOf(d)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, r := range c.at(k) {
		if r != none {
			names = append(names, c.file.names[r])
		}
	}
	return names
}

// at gives where k is, as far as is known now. c.mu is held.
func (c *Cache) at(k key) places {
	if p, ok := c.changed[k]; ok {
		return p
	}
	if e := c.file.find(k); e != nil {
		return e.at
	}
	return places{none, none}
}

// Found notes that d, of at least [MinSize] bytes, was put into repository or
// seen there, which is surer than what was known before. Once there are two no
// more are added, or every run would change the file.
func (c *Cache) Found(d oci.Descriptor, repository string) {
	k, ok := keyOf(d.Digest)
	if !ok || d.Size < MinSize || !oci.ValidRepository(repository) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.at(k)
	if r := c.file.name(repository); !slices.Contains(at[:], r) && at[1] == none {
		at = places{r, at[0]}
	}
	c.change(k, at)
}

// Missed notes that d isn't in repository, or can't be had from there.
func (c *Cache) Missed(d oci.Digest, repository string) {
	k, ok := keyOf(d)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.at(k)
	switch r := c.file.name(repository); r {
	case at[0]:
		c.change(k, places{at[1], none})
	case at[1]:
		c.change(k, places{at[0], none})
	}
}

// change enters that k is at. Past what the file would keep nothing is added.
// c.mu is held.
func (c *Cache) change(k key, at places) {
	if _, ok := c.changed[k]; ok || len(c.changed) < maxEntries {
		c.changed[k] = at
	}
}

// Save merges what the run found into the file, beside what other processes have
// added since, and replaces it as a whole. Nothing new writes nothing.
func (c *Cache) Save(ctx context.Context) error {
	return oci.Wrap(c.save(ctx), "write blob cache", c.path, oci.Descriptor{})
}

func (c *Cache) save(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.changed) == 0 {
		return nil
	}
	all := newTable()
	err := statefile.Update(ctx, c.path, maxFileSize, func(r io.Reader) (bool, error) {
		if err := all.read(r, ""); err != nil {
			return false, err
		}
		return all.merge(c.host, c.file.names, c.changed, day(c.now())), nil
	}, func(w io.Writer) error {
		all.trim(maxEntries)
		return all.write(w)
	})
	if err != nil {
		return err
	}
	c.changed = map[key]places{}
	return nil
}

// day gives the day of t, since 1970.
func day(t time.Time) uint32 { return uint32(max(0, t.Unix()/(24*60*60))) }
