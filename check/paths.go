package check

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"
)

// A sort is what an entry of a layer is.
type sort uint8

const (
	other sort = iota // folders, devices
	file
	symlink
)

// A spot is one entry of a layer: its path as a hash, and where it stands.
type spot struct {
	hash uint64
	pos  uint32
	sort sort
}

// A capital is an entry with a capital letter in its path.
type capital struct {
	hash, folded uint64 // of the path, and of the path in lower case
	pos          uint32
}

// paths are the entries of one layer in little memory: hashes to compare, of a
// seed that no image can know, and packed names to show.
type paths struct {
	seed     maphash.Seed
	spots    []spot          // by hash, then pos, once sorted
	capitals []capital       // by pos
	hides    map[uint64]bool // targets of whiteouts
	opaque   map[uint64]bool // folders
	names    names
}

func (p *paths) hash(path string) uint64 { return maphash.String(p.seed, path) }

// add notes the entry at path, clean and without leading slash.
func (p *paths) add(path string, s sort) {
	h, pos := p.hash(path), p.names.add(path)
	p.spots = append(p.spots, spot{h, pos, s})
	if folded := strings.ToLower(path); folded != path {
		p.capitals = append(p.capitals, capital{h, p.hash(folded), pos})
	}
}

// finish makes find work. Nothing is added afterwards.
func (p *paths) finish() {
	slices.SortFunc(p.spots, func(a, b spot) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.pos, b.pos)) })
	p.spots = slices.Clip(p.spots)
	p.names.pack()
}

// find gives the last entry at the path with hash h.
func (p *paths) find(h uint64) (spot, bool) {
	i, _ := slices.BinarySearchFunc(p.spots, h+1, func(s spot, h uint64) int { return cmp.Compare(s.hash, h) })
	if h+1 == 0 {
		i = len(p.spots)
	}
	if i == 0 || p.spots[i-1].hash != h {
		return spot{}, false
	}
	return p.spots[i-1], true
}

// weight is about how many bytes p takes.
func (p *paths) weight() int64 {
	n := 16*cap(p.spots) + 24*cap(p.capitals) + 32*(len(p.hides)+len(p.opaque))
	for _, b := range p.names.packed {
		n += cap(b) + 24
	}
	return int64(n)
}

// parents calls yield for each folder above path, innermost first, but not for
// the root.
func parents(path string, yield func(string) bool) {
	for {
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return
		}
		if path = path[:i]; !yield(path) {
			return
		}
	}
}

const (
	// maxName is the most bytes of a name that are kept to be shown.
	maxName = 256
	// packSize is how many names are packed together.
	packSize = 256
)

// names are strings in the order of their coming, packed.
type names struct {
	n      uint32
	open   []byte // not packed yet
	packed [][]byte
}

// add appends name and gives its place.
func (n *names) add(name string) uint32 {
	name = name[:min(len(name), maxName)]
	n.open = append(binary.AppendUvarint(n.open, uint64(len(name))), name...)
	n.n++
	if n.n%packSize == 0 {
		n.pack()
	}
	return n.n - 1
}

func (n *names) pack() {
	if len(n.open) > 0 {
		n.packed = append(n.packed, slices.Clip(s2.Encode(nil, n.open)))
		n.open = n.open[:0]
	}
}

// at gives the name at pos, once all are packed.
func (n *names) at(pos uint32) string {
	b, err := s2.Decode(nil, n.packed[pos/packSize])
	if err != nil {
		return "?" // memory is broken
	}
	for i := uint32(0); ; i++ {
		size, k := binary.Uvarint(b)
		if i == pos%packSize {
			return strings.ToValidUTF8(string(b[k:k+int(size)]), "\uFFFD")
		}
		b = b[k+int(size):]
	}
}
