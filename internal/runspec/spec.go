package runspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/umoci/oci/config/convert"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/oci"
)

// Names in a bundle's folder.
const (
	RootFS      = "rootfs"                // the root file system
	File        = "config.json"           // how to run it: what this package makes
	ImageConfig = "container-config.json" // what it was made of
)

// Ours begins the annotations that this program sets. Labels of an image can't.
const Ours = "io.quaymaster."

// DefaultHostname is a container's that has no other.
const DefaultHostname = "quaymaster"

// Parse reads an image's config. The error matches [oci.ErrInvalid], or
// [oci.ErrUnsupported] if it is for another system than linux.
func Parse(raw []byte) (*ocispec.Image, error) {
	c := new(ocispec.Image)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
	}
	if c.OS == "" {
		c.OS = "linux" // as early docker wrote it
	}
	if c.OS != "linux" {
		return nil, fmt.Errorf("config: %w: the image is for %s; a runtime bundle is for linux", oci.ErrUnsupported, c.OS)
	}
	texts := append([]string{c.Config.User, c.Config.WorkingDir}, c.Config.Env...)
	texts = append(append(texts, c.Config.Entrypoint...), c.Config.Cmd...)
	for v := range c.Config.Volumes {
		texts = append(texts, v)
	}
	for _, s := range texts {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("config: %w: %q has a zero byte", oci.ErrInvalid, s)
		}
	}
	return c, nil
}

// Options say what the user wants of a config.json.
type Options struct {
	Hostname    string // of the container
	HostNetwork bool   // the machine's network; else one of its own with the loopback alone
}

// String gives the options as those of a URI.
func (o Options) String() string {
	s := "hostname=" + o.Hostname
	if o.HostNetwork {
		s += ",network=host"
	}
	return s
}

// version is the oldest of the runtime specification that has all that is used
// here, so that every runtime takes it.
const version = "1.0.2"

// capabilities are what docker gives to a container: an image expects them.
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// Make converts an image's config as the image specification says, with umoci's
// template, which is runc's. rootfs is the root file system: users and volumes are looked
// up there. The lines say what was left out.
func (o Options) Make(image *ocispec.Image, rootfs string) (*rspec.Spec, []string, error) {
	var warned []string
	c := *image
	u, err := execUser(c.Config.User, rootfs)
	if err != nil {
		return nil, nil, err
	}
	volumes := c.Config.Volumes
	c.Config.Volumes, c.Config.User = nil, "" // both need a look into rootfs
	c.Config.Env, warned = envs(c.Config.Env)
	var left []string
	if c.Config.Labels, left = passive(c.Config.Labels); len(left) > 0 {
		warned = append(warned, "labels that a runtime would act on are no annotations: "+strings.Join(left, ", "))
	}
	if wd := c.Config.WorkingDir; wd != "" {
		c.Config.WorkingDir = path.Clean("/" + wd)
	}
	spec := convert.Example()
	if err := convert.MutateRuntimeSpec(&spec, "", c); err != nil {
		return nil, nil, fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
	}
	if c.Created == nil {
		delete(spec.Annotations, ocispec.AnnotationCreated)
	}
	spec.Version, spec.Hostname = version, o.Hostname
	spec.Root.Path = RootFS
	p := spec.Process
	p.Terminal = false
	p.User.UID, p.User.GID = uint32(u.Uid), uint32(u.Gid) //nolint:gosec // at most 31 bits, says GetExecUser
	for _, g := range u.Sgids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g)) //nolint:gosec // as above
	}
	p.Env = setHome(p.Env, c.Config.Env, u.Home)
	p.Capabilities = &rspec.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities}
	warned = append(warned, addVolumes(&spec, volumes, rootfs)...)
	if euid := os.Geteuid(); euid != 0 {
		if err := convert.ToRootless(&spec); err != nil {
			return nil, nil, err
		}
		spec.Linux.UIDMappings = []rspec.LinuxIDMapping{{HostID: uint32(euid), Size: 1}}         //nolint:gosec // a user's id
		spec.Linux.GIDMappings = []rspec.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}} //nolint:gosec // a group's id
	} else if o.HostNetwork {
		shareNetwork(&spec)
	}
	return &spec, warned, nil
}

// shareNetwork gives the container the machine's network and name servers.
func shareNetwork(spec *rspec.Spec) {
	var spaces []rspec.LinuxNamespace
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != rspec.NetworkNamespace {
			spaces = append(spaces, ns)
		}
	}
	spec.Linux.Namespaces = spaces
	const resolv = "/etc/resolv.conf"
	spec.Mounts = append(spec.Mounts, rspec.Mount{Destination: resolv, Type: "bind", Source: resolv, Options: []string{"rbind", "ro"}})
}

// maxUserFile bounds passwd and group.
const maxUserFile = 16 << 20

// execUser finds the user that an image names, in the image's own files.
func execUser(name, rootfs string) (*user.ExecUser, error) {
	passwd, err := userFile(rootfs, "etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := userFile(rootfs, "etc/group")
	if err != nil {
		return nil, err
	}
	u, err := user.GetExecUser(name, nil, passwd, group)
	if err != nil {
		return nil, fmt.Errorf("config: %w: user %q: %w", oci.ErrInvalid, name, err)
	}
	return u, nil
}

func userFile(rootfs, name string) (io.Reader, error) {
	raw, err := extract.ReadFile(rootfs, name, maxUserFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, oci.ErrInvalid): // there is none, or it is no file
		return bytes.NewReader(nil), nil
	case err != nil:
		return nil, err
	}
	return bytes.NewReader(raw), nil
}

// envs leaves out what is no NAME=VALUE.
func envs(in []string) (out, warned []string) {
	for _, e := range in {
		if strings.Index(e, "=") < 1 {
			warned = append(warned, fmt.Sprintf("environment %q has no name or no value and is left out", e))
			continue
		}
		out = append(out, e)
	}
	return out, warned
}

// setHome sets HOME in env as the image does, else to home.
func setHome(env, image []string, home string) []string {
	isHome := func(e string) bool { return strings.HasPrefix(e, "HOME=") }
	value := "HOME=" + home
	for _, e := range image {
		if isHome(e) {
			value = e
		}
	}
	return append(slices.DeleteFunc(env, isHome), value)
}

// active are prefixes of annotations that runtimes act on: an image has no say in
// how it is confined.
var active = []string{"run.oci.", "org.criu.", "org.systemd.property.", "io.katacontainers.", "io.kubernetes.", "io.containerd.",
	"io.podman.", "io.crun.", "com.docker.", "com.github.containers.", "dev.gvisor.", "module.wasm.", Ours}

// passive gives the labels that nobody acts on, and the names of the others,
// sorted.
func passive(labels map[string]string) (kept map[string]string, left []string) {
	kept = map[string]string{}
	for _, name := range sortedKeys(labels) {
		if hasPrefix(name, active) {
			left = append(left, fmt.Sprintf("%q", name))
			continue
		}
		kept[name] = labels[name]
	}
	return kept, left
}

// Encode gives spec as it is written.
func Encode(spec *rspec.Spec) ([]byte, error) {
	raw, err := json.MarshalIndent(spec, "", "    ")
	return append(raw, '\n'), err
}
