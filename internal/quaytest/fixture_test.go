package quaytest_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

type fixtureTag struct {
	name  string
	image imagetest.Image
}

type fixtureRepo struct {
	name   string
	public bool
	tags   []fixtureTag
}

var (
	base = imagetest.Files(map[string]string{"etc/os-release": "ID=test\n"})

	image1 = imagetest.New(imagetest.Linux, map[string]string{"org.example.a": "1", "org.example.b": "2", "maintainer": "me"}, base, imagetest.Random(1, 500))
	image2 = imagetest.New(imagetest.Linux, nil, base, imagetest.Random(2, 500))
	arm    = imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, base)
	multi  = imagetest.Index(image2, arm)

	docker     = dockerized(image2)
	dockerList = dockerized(imagetest.Index(image2, arm))
	artifact   = newArtifact("application/vnd.example.thing", nil)
)

// fixture is in the order of creation.
var fixture = []fixtureRepo{
	{"app", true, []fixtureTag{{"v1", image1}, {"v2", image2}, {"multi", multi}, {"docker", docker}, {"list", dockerList}, {"artifact", artifact}}},
	{"team/svc", true, []fixtureTag{{"v1", image2}}},
	{"empty", true, nil},
	{"priv", false, []fixtureTag{{"v1", image1}}},
	{"many", true, manyTags()},
}

func manyTags() (tags []fixtureTag) {
	for i := range 120 {
		tags = append(tags, fixtureTag{fmt.Sprintf("t%03d", i), image2})
	}
	return tags
}

// dockerized gives an image or index the media types of docker.
func dockerized(img imagetest.Image) imagetest.Image {
	types := strings.NewReplacer(
		oci.MediaTypeManifest, oci.MediaTypeDockerManifest,
		oci.MediaTypeIndex, oci.MediaTypeDockerList,
		"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
		"application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip",
	)
	raw := types.Replace(string(img.Raw))
	var children []imagetest.Image
	for _, c := range img.Children {
		d := dockerized(c)
		raw = strings.ReplaceAll(raw, string(c.Desc.Digest), string(d.Desc.Digest))
		raw = strings.ReplaceAll(raw, fmt.Sprintf(`"size":%d`, c.Desc.Size), fmt.Sprintf(`"size":%d`, d.Desc.Size))
		children = append(children, d)
	}
	out := imagetest.Image{Raw: []byte(raw), Blobs: img.Blobs, Children: children}
	out.Desc = oci.Descriptor{MediaType: types.Replace(img.Desc.MediaType), Digest: digest.FromString(raw), Size: int64(len(raw))}
	return out
}

// newArtifact makes an artifact of a type, about subject unless that is nil.
func newArtifact(artifactType string, subject *oci.Descriptor) imagetest.Image {
	config := imagetest.Blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "artifactType": artifactType, "config": config.Desc,
		"layers": []oci.Descriptor{config.Desc}, "subject": subject, "annotations": map[string]string{"org.example.kind": "artifact"},
	})
	if err != nil {
		panic(err)
	}
	if subject == nil {
		raw = []byte(strings.Replace(string(raw), `,"subject":null`, "", 1))
	}
	return imagetest.Image{
		Raw: raw, Blobs: map[oci.Digest][]byte{config.Desc.Digest: config.Bytes},
		Desc: oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))},
	}
}
