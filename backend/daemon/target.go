package daemon

import (
	"context"
	"fmt"

	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// place is a daemon that is written to.
type place struct {
	client   *engine.Client
	name     *oci.Ref // from the URI: the one image; nil for any number
	basename bool
}

// Traits: docker://IMAGE takes one image.
func (p *place) Traits() oci.Traits { return oci.Traits{Many: p.name == nil, Raw: true} }

// NameOf makes it an [oci.Namer].
func (p *place) NameOf(ref oci.Ref) string {
	if p.name != nil {
		return p.name.Tagged()
	}
	return dockersave.RepoTag(ref, p.basename)
}

// Image opens the destination of ref. The name in the URI, if there is one, takes
// its place. Nothing is sent yet. The error matches [oci.ErrUsage] if ref has no
// tag: an image without a name could not be found again.
func (p *place) Image(_ context.Context, ref oci.Ref) (oci.Destination, error) {
	tag := p.NameOf(ref)
	n, err := parseName(tag)
	if tag == "" || err != nil {
		return nil, oci.Usage(fmt.Sprintf("a daemon wants an image name with a tag, and %s has none; write docker://IMAGE:TAG", ref))
	}
	return &destination{image: image{client: p.client, name: n}, tag: tag, spool: dockersave.NewWriter("")}, nil
}

func (p *place) Finish(context.Context) error { return nil }

func (p *place) Close() error { return p.client.Close() }
