package index

import (
	"github.com/quaymaster/quaymaster/oci"
)

// The annotations by which buildkit ties an entry to the image that it is about.
//
// Source: buildkit's docs/attestations/attestation-storage.md.
const (
	attestsType   = "vnd.docker.reference.type"
	attestsDigest = "vnd.docker.reference.digest"
)

// Attests gives the digest of the entry that d is an attestation about, and
// whether it is one. The digest is d's word: there may be no such entry.
func Attests(d oci.Descriptor) (oci.Digest, bool) {
	if d.Annotations[attestsType] == "" {
		return "", false
	}
	return oci.Digest(d.Annotations[attestsDigest]), true
}

// follow marks the attestations among list that are about one of images, and those
// about these.
func follow(list []entry, images []oci.Digest) {
	about := map[oci.Digest][]int{}
	for i, e := range list {
		if e.attests && !e.again {
			about[e.about] = append(about[e.about], i)
		}
	}
	for len(images) > 0 {
		d := images[0]
		images = images[1:]
		for _, i := range about[d] {
			list[i].stays = true
			images = append(images, list[i].Digest)
		}
		delete(about, d) // each once, however they name each other
	}
}
