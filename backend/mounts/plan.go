package mounts

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// Names in the folder.
const (
	planName   = "plan.json"
	lockName   = ".lock"
	rootfsName = runspec.RootFS
	upperName  = "delta"
	workName   = "working"
	linksName  = "l"
	emptyName  = "empty" // the only layer of an image without layers
	layerName  = "layer"
	partName   = "part" // of a layer that isn't complete
	markName   = "layer.json"
)

const (
	maxPlan   = 16 << 20
	maxMark   = 64 << 10
	maxConfig = 16 << 20
	// maxLayers is what overlayfs takes.
	maxLayers = 500
)

// A plan is what the folder has, and how it is mounted. Paths are relative to the
// folder.
type plan struct {
	Image    string        `json:"image"`              // reference
	Digest   oci.Digest    `json:"digest"`             // of its manifest where it came from
	Platform *oci.Platform `json:"platform,omitempty"` // chosen of the index with that digest
	Filters  string        `json:"filters,omitempty"`  // that were applied: [oci.AnnotationFilters]
	Config   oci.Digest    `json:"config"`             // of container-config.json
	Layers   []layerMark   `json:"layers"`             // lowest first, each different one once

	Path      string   `json:"path"`      // the folder, when this was written
	Source    string   `json:"source"`    // of the mount, by which it is known again
	LowerDirs []string `json:"lowerdirs"` // topmost first
	UpperDir  string   `json:"upperdir"`
	WorkDir   string   `json:"workdir"`
	Target    string   `json:"target"`
	Options   []string `json:"options"` // further ones
	Command   string   `json:"command"` // for a shell
}

// A layerMark vouches for a layer's folder.
type layerMark struct {
	DiffID  oci.Digest `json:"diffID"`
	Size    int64      `json:"size"`    // of its tar, in bytes
	Entries int64      `json:"entries"` // in the folder
	Bytes   int64      `json:"bytes"`   // of the files in it
	Below   oci.Digest `json:"below"`   // of the list of layers below it, which it was extracted for

	// Image and Boot are of layer.json alone: the image it was extracted for, and
	// the start of the machine. A layer is durable only once there is a plan, so a
	// mark is believed no longer than until the machine stops.
	Image string `json:"image,omitempty"`
	Boot  string `json:"boot,omitempty"`
}

// folderOf gives the folder that is a layer's own.
func folderOf(d oci.Digest) string { return d.Encoded() }

func layerOf(d oci.Digest) string { return path.Join(folderOf(d), layerName) }

// newPlan gives what is to be mounted. layers are lowest first, abs is the folder.
func newPlan(abs string, layers []layerMark) *plan {
	p := &plan{Path: abs, Layers: layers, UpperDir: upperName, WorkDir: workName, Target: rootfsName, Options: []string{}, LowerDirs: []string{}}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n", abs)
	for _, l := range layers {
		fmt.Fprintf(sum, "%s\n", l.DiffID)
		p.LowerDirs = append([]string{layerOf(l.DiffID)}, p.LowerDirs...)
	}
	if len(layers) == 0 {
		p.LowerDirs = []string{emptyName}
	}
	p.Source = fmt.Sprintf("quaymaster-%x", sum.Sum(nil)[:8])
	if os.Geteuid() != 0 {
		p.Options = append(p.Options, "userxattr")
	}
	p.Command = p.command()
	return p
}

// command is for a shell. It names layers by their links, since a mount's options
// have no more room than a page, and tells newer programs not to split them.
func (p *plan) command() string {
	links := make([]string, len(p.LowerDirs))
	for i := range links {
		links[i] = fmt.Sprintf("%s/%d", linksName, i)
	}
	options := append([]string{"lowerdir=" + strings.Join(links, ":"), "upperdir=" + p.UpperDir, "workdir=" + p.WorkDir}, p.Options...)
	return fmt.Sprintf("cd -- %s && LIBMOUNT_FORCE_MOUNT2=always mount -t overlay %s -o %s %s", quote(p.Path), p.Source, strings.Join(options, ","), p.Target)
}

// quote quotes s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// readPlan gives the plan in root, nil if there is none. What is no plan of ours
// is an error matching [oci.ErrRefused].
func readPlan(root *os.Root) (*plan, error) {
	raw, _, err := safepath.ReadFile(root, planName, maxPlan)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, oci.ErrInvalid), errors.Is(err, oci.ErrTooLarge):
		return nil, oci.Refuse(fmt.Sprintf("%s/%s is no plan of quaymaster's; name another folder", root.Name(), planName))
	case err != nil:
		return nil, err
	}
	p := new(plan)
	if err := json.Unmarshal(raw, p); err != nil || p.Config == "" || p.Source == "" {
		return nil, oci.Refuse(fmt.Sprintf("%s/%s is no plan of quaymaster's; name another folder", root.Name(), planName))
	}
	for _, l := range p.Layers {
		if err := oci.ValidDigest(l.DiffID); err != nil {
			return nil, fmt.Errorf("%s: %w", planName, err)
		}
	}
	return p, nil
}

// has gives what the plan says of layer d. nil has none.
func (p *plan) layer(d oci.Digest) (layerMark, bool) {
	if p != nil {
		for _, l := range p.Layers {
			if l.DiffID == d {
				return l, true
			}
		}
	}
	return layerMark{}, false
}
