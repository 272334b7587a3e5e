package index

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// An Index is a manifest list or OCI index as it was read. [Parse] and [Wrap] make
// one. It is not changed by the functions of this package.
type Index struct {
	Desc    oci.Descriptor // media type that holds, digest, size
	Raw     []byte
	Entries []oci.Descriptor // in its order

	raws []json.RawMessage // of Entries, with what oci.Descriptor doesn't know
}

// A Style says how JSON that had to be made anew is written.
type Style string

// The styles.
const (
	// Compact has the keys in the source's order and no white space. What didn't
	// change isn't made anew, and keeps its bytes.
	Compact Style = ""
	// Pubtools has sorted keys, is indented by four and ASCII, as pubtools-quay
	// writes, so that both give one digest; but for numbers that Python spells
	// otherwise, as 1.50, which stay. For that a merge of two lists is made
	// anew where nothing changed as well, unless platforms are chosen (Options.Eligible).
	Pubtools Style = "pubtools"
)

// Options of [Merge], [Filter] and [Wrap]. The zero value is ready.
type Options struct {
	// Eligible chooses platforms of the source, which it is given as [Normalize]
	// gives them, and the zero Platform for an entry that has none; nil takes all.
	// What it refuses is as if the source lacked it.
	Eligible func(oci.Platform) bool
	// StrictOSVersion compares Windows builds by all components of os.version.
	// Otherwise three count: a revision replaces another, a build doesn't.
	StrictOSVersion bool
	// Type is "docker" or "oci" to insist on that; "" gives the source's type, and
	// an OCI index where there is an entry that a docker list can't hold.
	Type  string
	Style Style
	// Platforms are those of entries that don't say theirs, as their configs do.
	// An entry that is neither here nor says it is told apart by its digest alone;
	// one that lacks only its OS is taken to be linux's.
	Platforms map[oci.Digest]oci.Platform
}

// A Change says what becomes of one platform. Attestations make none.
type Change struct {
	Action   Action
	Platform oci.Platform // normalised; zero where nobody knows it
	Old, New oci.Digest   // at the destination and in the result; "" where there is none
}

// An Action is what becomes of a platform of the destination.
type Action string

// The actions.
const (
	Added    Action = "added"
	Replaced Action = "replaced"
	Same     Action = "unchanged" // both have it, with one digest
	Kept     Action = "kept"      // only the destination has it
	Dropped  Action = "dropped"
)

// A Result is a list that was made.
type Result struct {
	Index
	Changes  []Change // in the order of Entries, those dropped last
	Warnings []string // a line each
}

// Parse reads the list raw, served as mt ("" if nobody says). The type that holds is
// the one in raw, else mt, else an OCI index. Errors are those of [oci.ParseManifest],
// and [oci.ErrInvalid] for what is no list. The digest is a sha256.
func Parse(mt oci.MediaType, raw []byte) (*Index, error) {
	m, err := oci.ParseManifest(mt, raw)
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		return nil, fmt.Errorf("%w: %s is a single manifest, no list", oci.ErrInvalid, m.MediaType)
	}
	var list struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	desc := oci.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return &Index{Desc: desc, Raw: raw, Entries: m.Manifests, raws: list.Manifests}, nil
}

// Eligible reports whether opt chooses any image of the list, as [Merge] would.
func (ix *Index) Eligible(opt Options) bool {
	if opt.Eligible == nil {
		return true
	}
	for _, d := range ix.Entries {
		p, _ := PlatformOf(d, opt.Platforms) // the zero Platform if nobody knows
		if _, is := Attests(d); !is && opt.Eligible(p) {
			return true
		}
	}
	return false
}

// Unsaid gives the entries whose platform, or its OS, the list doesn't say: those
// whose configs the caller should read for Options.Platforms. Attestations need none,
// indexes have none.
func (ix *Index) Unsaid() []oci.Descriptor {
	var out []oci.Descriptor
	for _, d := range ix.Entries {
		if _, is := Attests(d); is || oci.IsIndexType(d.MediaType) {
			continue
		}
		if d.Platform == nil || d.Platform.OS == "" || d.Platform.Architecture == "" {
			out = append(out, d)
		}
	}
	return out
}
