package cli_test

import (
	"archive/tar"
	"context"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// trees are the images of the organisation tree, whose layers are worth a look:
// app:1 has each kind of entry and hides some; odd has names that no one
// should print; cut has a layer whose archive breaks off.
func trees() map[string]imagetest.Image {
	base := plain(
		imagetest.Dir("etc/"), imagetest.File("etc/motd", "hello\n"), imagetest.File("etc/host", "one\n"),
		imagetest.Entry{Header: tar.Header{Name: "bin/su", Mode: 0o4755, Uid: 7, Gid: 8}, Body: "su"},
		imagetest.Hardlink("bin/sg", "bin/su"), imagetest.Symlink("bin/sh", "su"),
	)
	devices := plain(imagetest.Entry{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		imagetest.Entry{Header: tar.Header{Name: "run/pipe", Typeflag: tar.TypeFifo}})
	raw := imagetest.Tar(imagetest.File("etc/first", "1\n"), imagetest.File("etc/second", "2\n"))
	return map[string]imagetest.Image{
		"tree/app": imagetest.New(imagetest.Linux, nil, base, devices, plain(imagetest.File("etc/.wh.motd", ""))),
		"tree/odd": imagetest.New(imagetest.Linux, nil, plain(imagetest.File("a\x1b[31mb\nc", ""), imagetest.File("no\xffutf8", ""))),
		"tree/cut": imagetest.New(imagetest.Linux, nil, base, imagetest.Gzip(raw[:1100])),
	}
}

// later is tree/app as a later release has it, at another place.
func later() imagetest.Image {
	app := trees()["tree/app"]
	base := imagetest.Layer{Desc: manifestOf(app).Layers[0]}
	base.DiffID, base.Bytes = base.Desc.Digest, app.Blobs[base.Desc.Digest]
	return imagetest.New(imagetest.Linux, map[string]string{"release": "2"}, base, plain(
		imagetest.File("etc/host", "three\n"), imagetest.File("etc/new\x1b[31m", "\xff"),
		imagetest.Entry{Header: tar.Header{Name: "bin/su", Mode: 0o755, Uid: 7, Gid: 9}, Body: "su"}))
}

// manifestOf reads the manifest of img.
func manifestOf(img imagetest.Image) *oci.Manifest {
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		panic(err)
	}
	return m
}

// plain is a layer without compression, whose digest nobody's gzip changes.
func plain(entries ...imagetest.Entry) imagetest.Layer {
	return imagetest.Blob("application/vnd.oci.image.layer.v1.tar", imagetest.Tar(entries...))
}

// fillTrees makes the organisations tree and later.
func fillTrees(ctx context.Context, s *quaytest.Server) error {
	for repo, img := range trees() {
		if err := s.Push(ctx, repo, "1", img); err != nil {
			return err
		}
	}
	return s.Push(ctx, "later/app", "1", later())
}
