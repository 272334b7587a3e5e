package index_test

import (
	"fmt"
	"log"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	ofAMD64 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	ofARM64 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	newer   = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// what a registry answers for the tag that is to be updated.
const published = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
	{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + ofAMD64 + `","size":480,"platform":{"os":"linux","architecture":"amd64"}},
	{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + ofARM64 + `","size":480,"platform":{"os":"linux","architecture":"arm64"}}]}`

// and for what was built, for one platform.
const built = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
	{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + newer + `","size":480,"platform":{"os":"linux","architecture":"x86_64"}}]}`

func lists() (source, destination *index.Index) {
	source, err := index.Parse(oci.MediaTypeIndex, []byte(built))
	if err != nil {
		log.Fatal(err)
	}
	destination, err = index.Parse(oci.MediaTypeIndex, []byte(published))
	if err != nil {
		log.Fatal(err)
	}
	return source, destination
}

// A build of one platform is published without losing the others.
func ExampleMerge() {
	source, destination := lists()
	res, err := index.Merge(source, destination, index.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range res.Changes {
		fmt.Printf("%-9s %s\n", c.Action, index.Name(c.Platform))
	}
	if res.Desc.Digest != destination.Desc.Digest { // else there is nothing to write
		fmt.Println("PUT", res.Desc.MediaType, len(res.Raw) == int(res.Desc.Size))
	}
	// Output:
	// replaced  linux/amd64
	// kept      linux/arm64
	// PUT application/vnd.oci.image.index.v1+json true
}

// Of a release that has many platforms one is taken.
func ExampleMerge_eligible() {
	source, destination := lists()
	res, err := index.Merge(destination, source, index.Options{
		Eligible: func(p oci.Platform) bool { return p.Architecture == "arm64" },
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range res.Changes {
		fmt.Printf("%-9s %s\n", c.Action, index.Name(c.Platform))
	}
	// Output:
	// added     linux/arm64
	// kept      linux/amd64
}

// A platform is withdrawn.
func ExampleFilter() {
	_, published := lists()
	res, err := index.Filter(published, func(d oci.Descriptor) bool {
		return d.Platform == nil || d.Platform.Architecture != "arm64"
	}, index.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", res.Raw)
	// Output:
	// {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":480,"platform":{"os":"linux","architecture":"amd64"}}]}
}

// An image of one platform becomes a list, so that others can be added to it. Its
// config says which platform that is.
func ExampleWrap() {
	platform, err := index.ConfigPlatform([]byte(`{"architecture":"arm","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	if err != nil {
		log.Fatal(err)
	}
	image := oci.Descriptor{MediaType: oci.MediaTypeDockerManifest, Digest: ofARM64, Size: 480}
	list, err := index.Wrap(image, platform, index.Options{Style: index.Pubtools})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", list.Raw)
	// Output:
	// {
	//     "manifests": [
	//         {
	//             "digest": "sha256:2222222222222222222222222222222222222222222222222222222222222222",
	//             "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
	//             "platform": {
	//                 "architecture": "arm",
	//                 "os": "linux"
	//             },
	//             "size": 480
	//         }
	//     ],
	//     "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
	//     "schemaVersion": 2
	// }
}

func ExampleKey() {
	a := oci.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1"}
	b := oci.Platform{OS: "windows", Architecture: "x86_64", OSVersion: "10.0.17763.2"}
	fmt.Println(index.Key(a, false) == index.Key(b, false), index.Key(a, true) == index.Key(b, true))
	// Output: true false
}
