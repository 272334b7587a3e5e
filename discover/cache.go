package discover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/quaymaster/quaymaster/oci"
)

// cacheAge is how long a listing that was kept is used instead of a new one.
// Items are pinned to digests, so an old listing never mixes two images: a tag
// that has moved since shows when it is pulled.
const cacheAge = time.Hour

// cacheVersion is part of the name of each file.
const cacheVersion = 1

// maxCache bounds the bytes of a file that is read.
const maxCache = 64 << 20

// A kept listing, as JSON in a file of mode 0600. It holds names and digests,
// and no secrets.
type kept struct {
	Made    time.Time   `json:"made"`
	Listing oci.Listing `json:"listing"`
	Items   []oci.Item  `json:"items"`
}

// cacheFile gives the name of the file for the query: a hash of all that makes
// a difference to its answer, the token included.
func (im *quayImages) cacheFile() string {
	token := sha256.Sum256([]byte(im.query.token))
	key := sha256.Sum256(fmt.Appendf(nil, "%d %x %v %s", cacheVersion, token, im.env.PlainHTTP, im.query.key))
	return filepath.Join(im.env.CacheDir, "quay-"+hex.EncodeToString(key[:])+".json")
}

// recall gives the kept listing of the query, if there is one of use. One that
// can't be read is as good as none, but the user is told.
func (im *quayImages) recall() ([]oci.Item, bool) {
	if im.env.CacheDir == "" {
		return nil, false
	}
	file := im.cacheFile()
	k, err := readKept(file)
	if err == nil {
		err = im.check(k)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false
	case err != nil:
		im.env.Warnf("discovery cache %s is of no use (%v); listing again", file, err)
		return nil, false
	}
	// A listing of the future says that a clock was set; it may be of any age.
	age := time.Since(k.Made)
	if age < 0 || age >= cacheAge {
		return nil, false
	}
	im.env.Logger().Info("discovery cache: the listing is kept", "file", file, "age", age.Round(time.Second))
	im.count(func(l *oci.Listing) { *l = k.Listing })
	return k.Items, true
}

func readKept(file string) (kept, error) {
	var k kept
	info, err := os.Stat(file)
	if err != nil {
		return k, err
	}
	if info.Size() > maxCache || !info.Mode().IsRegular() {
		return k, fmt.Errorf("%w: %d bytes", oci.ErrInvalid, info.Size())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return k, err
	}
	return k, json.Unmarshal(raw, &k)
}

// check refuses a listing that the query can't have given.
func (im *quayImages) check(k kept) error {
	for _, item := range k.Items {
		r := item.Ref
		if r.Registry != im.query.host || !strings.HasPrefix(r.Repository, im.query.namespace+"/") ||
			!oci.ValidRepository(r.Repository) || !oci.ValidTag(r.Tag) || r.Digest != "" {
			return fmt.Errorf("%w: %q in it", oci.ErrInvalid, r)
		}
		if err := oci.ValidDigest(item.Desc.Digest); err != nil {
			return err
		}
	}
	if k.Listing.Found != len(k.Items) || !k.Listing.Done {
		return fmt.Errorf("%w: %d of %d images in it", oci.ErrInvalid, len(k.Items), k.Listing.Found)
	}
	return nil
}

// keep stores the listing that just ended. An empty one isn't worth it: whoever
// gets it will push a tag and ask again.
func (im *quayImages) keep(items []oci.Item) {
	if im.env.CacheDir == "" || len(items) == 0 {
		return
	}
	raw, err := json.Marshal(kept{Made: time.Now().UTC(), Listing: im.Listing(), Items: items})
	if err == nil {
		err = os.MkdirAll(im.env.CacheDir, 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(im.cacheFile(), raw, 0o600)
	}
	if err != nil {
		im.env.Warnf("discovery cache: the listing is not kept: %v", err)
	}
}
