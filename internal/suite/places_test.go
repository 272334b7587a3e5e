package suite_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/oci"
)

// A kind is one way to keep images, as the suite uses it.
type kind struct {
	name   string // of its tests
	scheme string // of the backend
	keeps  bool   // manifests, as they are
	// alone says that one image is to be read at a time.
	alone bool
	// empty makes a place without images.
	empty func(t *testing.T, w *world) place
}

// kinds has a line for each backend, or more.
var kinds = []kind{
	{"registry", "registry", true, false, inRegistry},
	{"tar", "tar", false, false, onDisk("tar", "")},
	{"ocidir", "ocidir", true, false, onDisk("ocidir", "")},
	{"oci-archive", "oci-archive", true, false, onDisk("oci-archive", "")},
	{"dir", "dir", false, false, onDisk("dir", "?unique_names=true")},
	{"oci", "oci", false, false, asTree("oci")},
	{"mounts", "mounts", false, false, asTree("mounts")},
	{"docker", "docker", false, false, inDaemon("docker", dockerd)},
	{"docker of podman", "docker", false, false, inDaemon("docker", podman)},
	{"dockerpush", "dockerpush", false, false, inDaemon("dockerpush", dockerd)},
	// To push it, podman is told another name of the image. Of names that are given to
	// one image at the same time it loses some.
	{"dockerpush of podman", "dockerpush", false, true, inDaemon("dockerpush", podman)},
}

// A place is where a kind keeps images.
type place struct {
	to     string                                      // URI to write to; images keep their names, if it takes several
	name   func(item oci.Item) (oci.Ref, error)        // what images are called there; nil: as they were
	from   func(name oci.Ref) string                   // URI to read the image name; nil: it can't be read
	tree   func(t *testing.T) map[string]filetree.File // what a place of one image has; nil: it holds images
	path   string                                      // file or folder where all of it is; "": it is elsewhere
	only   bool                                        // it can't be written to: to is another's
	daemon bool                                        // it is one
	// hurt lets what is read of a server be cut or changed until the function that
	// it gives is called; nil: the files at path are hurt.
	hurt func(how damage, at int) (heal func())
}

// A world is what the places of a test run live in.
type world struct {
	docker, podman func() daemontest.Daemon // each started when it is wanted
}

func newWorld(t *testing.T) *world {
	return &world{sync.OnceValue(func() daemontest.Daemon { return daemontest.Docker(t) }), sync.OnceValue(func() daemontest.Daemon { return daemontest.Podman(t) })}
}

func dockerd(w *world) daemontest.Daemon { return w.docker() }
func podman(w *world) daemontest.Daemon  { return w.podman() }

// onDisk keeps images in a file or folder.
func onDisk(scheme, options string) func(*testing.T, *world) place {
	return func(t *testing.T, _ *world) place {
		path := filepath.Join(t.TempDir(), "below", "place")
		return place{to: scheme + "://" + path + options, path: path,
			from: func(name oci.Ref) string { return scheme + "://" + path + ":" + name.String() }}
	}
}

// asTree keeps one image as a root file system.
func asTree(scheme string) func(*testing.T, *world) place {
	return func(t *testing.T, _ *world) place {
		need.Root(t) // owners, and the mount
		path := filepath.Join(t.TempDir(), "below", "place")
		root := filepath.Join(path, "rootfs")
		t.Cleanup(func() {
			for unix.Unmount(root, 0) == nil {
			}
		})
		return place{to: scheme + "://" + path, path: path, tree: func(t *testing.T) map[string]filetree.File { return filesBelow(t, root) }}
	}
}

func inRegistry(t *testing.T, _ *world) place {
	f := &faulty{next: ociserver.New(ocimem.New(), nil), match: func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	name := bulk.Naming{Registry: host}.Name
	return place{to: "registry://" + host, name: name, hurt: f.hurt,
		from: func(ref oci.Ref) string {
			ref.Registry = host
			return "registry://" + ref.String()
		}}
}

// inDaemon keeps images in a daemon, and reads them as scheme does.
func inDaemon(scheme string, daemon func(*world) daemontest.Daemon) func(*testing.T, *world) place {
	return func(t *testing.T, w *world) place {
		d := daemon(w)
		p := place{to: "docker://?socket=" + d.Socket, only: scheme != "docker", daemon: true}
		p.from = func(name oci.Ref) string { return scheme + "://" + name.String() + "?socket=" + d.Socket }
		if scheme == "docker" {
			socket, f := proxied(t, d.Socket)
			p.to = "docker://?socket=" + socket
			p.from = func(name oci.Ref) string { return scheme + "://" + name.String() + "?socket=" + socket }
			p.hurt = f.hurt
		}
		return p
	}
}
