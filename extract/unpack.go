//go:build linux || darwin

package extract

import (
	"archive/tar"
	"io"
	"sync"

	"github.com/apex/log"
	umoci "github.com/opencontainers/umoci/oci/layer"
)

// freshAfter is how many entries one umoci extractor gets: it remembers all that it
// has put, for whiteouts, which are ours.
const freshAfter = 4096

// An unpacker puts entries with umoci.
type unpacker struct {
	opt  umoci.UnpackOptions
	te   *umoci.TarExtractor
	puts int // by te
}

// quiet has umoci's logger say nothing: what matters is in errors and warnings.
var quiet = sync.OnceFunc(func() {
	log.SetHandler(log.HandlerFunc(func(*log.Entry) error { return nil }))
})

func newUnpacker(rootless, overlay bool) *unpacker {
	quiet()
	m := umoci.MapOptions{Rootless: rootless}
	if overlay {
		return &unpacker{opt: umoci.UnpackOptions{OnDiskFormat: umoci.OverlayfsRootfs{MapOptions: m, UserXattr: rootless}}}
	}
	return &unpacker{opt: umoci.UnpackOptions{OnDiskFormat: umoci.DirRootfs{MapOptions: m}}}
}

// entry puts one entry into the folder dir.
func (u *unpacker) entry(dir string, h *tar.Header, r io.Reader) error {
	if u.puts++; u.te == nil || u.puts > freshAfter {
		u.te, u.puts = umoci.NewTarExtractor(&u.opt), 0
	}
	return u.te.UnpackEntry(dir, h, r)
}
