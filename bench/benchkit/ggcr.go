package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// cmdGGCRTime is mutate.Time of go-containerregistry, which crane doesn't offer
// as a command.
func cmdGGCRTime(ctx context.Context, args []string, _ io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: benchkit ggcr-time SOURCE DESTINATION")
	}
	src, err := name.ParseReference(args[0], name.Insecure)
	if err != nil {
		return err
	}
	dst, err := name.ParseReference(args[1], name.Insecure)
	if err != nil {
		return err
	}
	img, err := remote.Image(src, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	if img, err = mutate.Time(img, time.Unix(0, 0)); err != nil {
		return err
	}
	return remote.Write(dst, img, remote.WithContext(ctx))
}
