package diff

import (
	"github.com/quaymaster/quaymaster/filetree"
	"github.com/quaymaster/quaymaster/oci"
)

// A variant is one platform of an image, as one side has it.
type variant struct {
	filetree.Image
	config *filetree.Config
	src    oci.Source
	ref    string // for messages
}

// id tells layer i from others, however it is compressed: its diffID as the
// config has it, else its digest.
func (v *variant) id(i int) oci.Digest {
	if id := v.config.DiffID(i); id != "" {
		return id
	}
	return v.Layers[i].Digest
}

// madeUp reports whether the manifest is none that anybody else has.
func (v *variant) madeUp() bool { return oci.IsSynthetic(v.Manifest) }

// digest is the manifest's, "" where the place keeps none.
func (v *variant) digest() oci.Digest {
	if v.madeUp() {
		return ""
	}
	return v.Manifest.Digest
}

// holds reports whether layer i is an archive of files.
func (v *variant) holds(i int) bool { return v.HoldsFiles(v.Layers[i]) }

// common counts the lowest layers that a and b share.
func common(a, b *variant) int {
	n := 0
	for n < len(a.Layers) && n < len(b.Layers) && a.id(n) == b.id(n) {
		n++
	}
	return n
}

// layers gives the layers that only one has, and those that were compressed anew:
// of a place without manifests nobody knows how they were.
func layers(a, b *variant) []Layer {
	out := []Layer{}
	inB := map[oci.Digest][]int{} // the places of each layer, lowest first
	for i := range b.Layers {
		inB[b.id(i)] = append(inB[b.id(i)], i)
	}
	add := func(v *variant, i int, change string) {
		d := v.Layers[i]
		out = append(out, Layer{Change: change, Index: i, Digest: d.Digest, DiffID: v.config.DiffID(i), Size: d.Size})
	}
	kept := map[int]bool{}
	for i := range a.Layers {
		places := inB[a.id(i)]
		if len(places) == 0 {
			add(a, i, "removed")
			continue
		}
		inB[a.id(i)] = places[1:]
		kept[places[0]] = true
		if a.Layers[i].Digest != b.Layers[places[0]].Digest && !a.madeUp() && !b.madeUp() {
			add(b, places[0], "recompressed")
		}
	}
	for i := range b.Layers {
		if !kept[i] {
			add(b, i, "added")
		}
	}
	return out
}
