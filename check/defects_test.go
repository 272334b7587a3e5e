package check_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// when is the time of entries.
var when = time.Unix(1700000000, 0)

// An entry is one of a tar.
type entry struct {
	tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, ModTime: when}, body}
}

func (e entry) with(change func(h *tar.Header)) entry {
	change(&e.Header)
	return e
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644, ModTime: when}, ""}
}

func folder(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: when}, ""}
}

func soft(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777, ModTime: when}, ""}
}

// archive makes a tar.
func archive(entries ...entry) []byte {
	var raw bytes.Buffer
	tw := tar.NewWriter(&raw)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		must(tw.WriteHeader(&e.Header))
		_, err := io.WriteString(tw, e.body)
		must(err)
	}
	must(tw.Close())
	return raw.Bytes()
}

func entries(e ...entry) imagetest.Layer { return imagetest.Gzip(archive(e...)) }

// image is a good image of a base and more layers.
func image(layers ...imagetest.Layer) *content {
	return of(imagetest.New(imagetest.Linux, nil, append([]imagetest.Layer{base()}, layers...)...))
}

// base has a bit of everything.
var base = sync.OnceValue(func() imagetest.Layer {
	return entries(folder("./"), folder("./etc/"), reg("./etc/os-release", "ID=test\n"), hardlink("./etc/alias", "./etc/os-release"),
		soft("./lib", "usr/lib"), folder("./usr/lib"), reg("usr/lib/libc", "c"))
})

// compressed makes a layer of b that says it is mt and whose tar is raw.
func compressed(mt oci.MediaType, b, raw []byte) imagetest.Layer {
	l := imagetest.Blob(mt, b)
	l.DiffID = digest.FromBytes(raw)
	return l
}

func zstdLayer(raw []byte) imagetest.Layer {
	w, err := zstd.NewWriter(nil)
	must(err)
	return compressed(ocispec.MediaTypeImageLayerZstd, w.EncodeAll(raw, nil), raw)
}

var arm = oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}

// two is a good index.
func two() *content {
	return of(imagetest.Index(imagetest.New(imagetest.Linux, nil, base()), imagetest.New(arm, nil, base(), entries(reg("arm", "64")))))
}

func firstChild(m map[string]any) map[string]any { return m["manifests"].([]any)[0].(map[string]any) }

// defects has an image for each check, with nothing else wrong.
var defects = []struct {
	id   string
	fast bool // the defect shows in fast mode; these images are checked so too
	only bool // only in fast mode
	make func() *content
}{
	{"manifest-digest", true, false, func() *content {
		c := image()
		c.damage(c.root.Digest)
		return c
	}},
	{"manifest-valid", true, false, func() *content {
		c := image()
		return c.replace([]byte(strings.Replace(string(c.files[c.root.Digest]), `{`, `{"layers":[],`, 1)))
	}},
	{"schema-version", true, false, func() *content { return image().edit(func(m map[string]any) { m["schemaVersion"] = 3 }) }},
	{"oci-media-type", true, false, func() *content { return image() }},
	{"docker-media-type", true, false, func() *content {
		c := image()
		c.root.MediaType = oci.MediaTypeDockerManifest
		return c.edit(func(m map[string]any) {
			m["mediaType"] = c.root.MediaType
			m["config"].(map[string]any)["mediaType"] = "application/vnd.docker.container.image.v1+json"
			layerOf(m, 0)["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
		})
	}},
	{"index-child", true, false, func() *content {
		c := two()
		delete(c.files, c.manifest().Manifests[1].Digest)
		return c
	}},
	{"index-platform", true, false, func() *content {
		return two().edit(func(m map[string]any) { firstChild(m)["platform"].(map[string]any)["architecture"] = "riscv64" })
	}},
	{"index-duplicate", true, false, func() *content {
		return of(imagetest.Index(imagetest.New(arm, nil, base()), imagetest.New(arm, nil, base(), entries(reg("arm", "64")))))
	}},
	{"metadata", true, false, func() *content {
		return image().edit(func(m map[string]any) {
			m["config"].(map[string]any)["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
		})
	}},
	{"config-descriptor", true, false, func() *content { return image().edit(func(m map[string]any) { delete(m, "config") }) }},
	{"config-digest", true, false, func() *content {
		c := image()
		c.damage(c.manifest().Config.Digest)
		return c
	}},
	{"config-size", true, false, func() *content {
		return image().edit(func(m map[string]any) {
			cfg := m["config"].(map[string]any)
			cfg["size"] = cfg["size"].(float64) + 1
		})
	}},
	{"config-valid", true, false, func() *content {
		c := image()
		raw := c.files[c.manifest().Config.Digest]
		return c.replaceConfig([]byte(strings.Replace(string(raw), `{`, `{"rootFS":{"type":"layers"},`, 1)))
	}},
	{"config-platform", true, false, func() *content { return image().editConfig(func(c map[string]any) { delete(c, "os") }) }},
	{"rootfs-type", true, false, func() *content {
		return image().editConfig(func(c map[string]any) { c["rootfs"].(map[string]any)["type"] = "layer" })
	}},
	{"layer-count", true, false, func() *content {
		return image().editConfig(func(c map[string]any) {
			r := c["rootfs"].(map[string]any)
			r["diff_ids"] = append(r["diff_ids"].([]any), digest.FromString("more"))
		})
	}},
	{"history-count", true, false, func() *content {
		return image().editConfig(func(c map[string]any) { c["history"] = append(c["history"].([]any), map[string]any{"created_by": "x"}) })
	}},
	{"history-order", true, false, func() *content {
		return image().editConfig(func(c map[string]any) {
			c["history"] = append(c["history"].([]any), map[string]any{"created": "2001-01-01T00:00:00Z", "empty_layer": true})
		})
	}},
	{"args-escaped", true, false, func() *content {
		return image().editConfig(func(c map[string]any) { c["config"].(map[string]any)["ArgsEscaped"] = true })
	}},
	{"zstd-compat", true, false, func() *content { return image(zstdLayer(archive(reg("z", "z")))) }},
	{"large-layer", true, true, func() *content {
		return image().edit(func(m map[string]any) { layerOf(m, 0)["size"] = 1<<30 + 1 })
	}},
	{"blob-missing", false, false, func() *content {
		c := image()
		delete(c.files, c.manifest().Layers[0].Digest)
		return c
	}},
	{"foreign-layer", false, false, func() *content {
		c := image()
		delete(c.files, c.manifest().Layers[0].Digest)
		return c.edit(func(m map[string]any) {
			layerOf(m, 0)["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
			layerOf(m, 0)["urls"] = []string{"https://example.com/layer"}
		})
	}},
	{"blob-digest", false, false, func() *content {
		c := image()
		c.damage(c.manifest().Layers[0].Digest)
		return c
	}},
	{"blob-size", false, false, func() *content {
		return image().edit(func(m map[string]any) { layerOf(m, 0)["size"] = layerOf(m, 0)["size"].(float64) - 1 })
	}},
	{"layer-media-type", false, false, func() *content {
		return image().edit(func(m map[string]any) { layerOf(m, 0)["mediaType"] = ocispec.MediaTypeImageLayer })
	}},
	{"layer-compression", false, false, func() *content {
		l := entries(reg("a", strings.Repeat("a", 5000)))
		return image(compressed(l.Desc.MediaType, l.Bytes[:len(l.Bytes)-6], archive()))
	}},
	{"layer-limits", false, false, func() *content { return image(entries(reg("zeros", strings.Repeat("\x00", 4<<20)))) }},
	{"diff-id", false, false, func() *content {
		return image().editConfig(func(c map[string]any) { c["rootfs"].(map[string]any)["diff_ids"] = []any{digest.FromString("other")} })
	}},
	{"tar-format", false, false, func() *content {
		raw := archive(reg("a", "a"), reg("b", strings.Repeat("b", 2000)))
		return image(imagetest.Gzip(raw[:3*512+100])) // within b
	}},
	{"tar-end", false, false, func() *content { return image(imagetest.Gzip(archive(reg("a", "a"))[:2*512])) }},
	{"tar-path", false, false, func() *content { return image(entries(reg("a/../../b", ""))) }},
	{"tar-timestamp", false, false, func() *content {
		return image(entries(reg("a", "").with(func(h *tar.Header) { h.ModTime, h.Format = time.Unix(-1, 0), tar.FormatPAX })))
	}},
	{"tar-permissions", false, false, func() *content {
		return image(entries(reg("a", "").with(func(h *tar.Header) { h.Mode = 0o4777 })))
	}},
	{"whiteout", false, false, func() *content { return image(entries(reg("etc/.wh..", ""))) }},
	{"whiteout-size", false, false, func() *content { return image(entries(reg("etc/.wh.os-release", "x"))) }},
	{"whiteout-same-layer", false, false, func() *content {
		return image(entries(reg("etc/.wh.os-release", ""), reg("etc/os-release", "new")))
	}},
	{"hardlink-dangling", false, false, func() *content {
		return image(entries(reg("etc/.wh.os-release", "")), entries(hardlink("a", "etc/os-release")))
	}},
	{"duplicate-file", false, false, func() *content { return image(entries(reg("etc/os-release", "new"))) }},
	{"case-conflict", false, false, func() *content { return image(entries(reg("etc/OS-release", ""))) }},
}

// limits make a bomb of 4 MiB.
var limits = layer.Options{RatioFrom: 1 << 20}

func TestEachDefectIsCaughtByItsOwnCheck(t *testing.T) {
	severity := map[string]check.Severity{}
	full := map[string]bool{}
	for _, c := range check.Table {
		severity[c.ID], full[c.ID] = c.Severity, c.Full
	}
	near := newFar(t)
	cases := map[string]int{}
	for _, d := range defects {
		cases[d.id]++
		if severity[d.id] == "" {
			t.Errorf("%s is not in the table", d.id)
		}
		if d.fast == full[d.id] {
			t.Errorf("%s: the table says full %v", d.id, full[d.id])
		}
		for _, fast := range []bool{true, false} {
			if fast && !d.fast || !fast && d.only {
				continue
			}
			mode := map[bool]string{true: " fast", false: ""}[fast]
			t.Run(d.id+" in a layout"+mode, func(t *testing.T) {
				src, item := d.make().layout(t)
				only(t, src, item, fast, d.id, severity[d.id])
			})
			t.Run(d.id+" in a registry"+mode, func(t *testing.T) {
				src, item := near.add(t, "org/"+d.id, d.make())
				only(t, src, item, fast, d.id, severity[d.id])
			})
		}
	}
	for _, c := range check.Table {
		if cases[c.ID] == 0 {
			t.Errorf("%s has no image that shows it", c.ID)
		}
	}
}

// only wants an image to be found wrong by check id and no other.
func only(t *testing.T, src oci.Source, item oci.Item, fast bool, id string, severity check.Severity) {
	t.Helper()
	r, err := check.Image(t.Context(), src, item, check.Options{Fast: fast, Layer: limits})
	if err != nil {
		t.Fatal(err)
	}
	worst := map[string]bool{}
	said := false
	for _, f := range r.Results {
		if f.Severity != check.Info {
			worst[f.Check] = true
		}
		said = said || f.Check == id && f.Severity == severity
	}
	want := map[string]bool{}
	if severity != check.Info {
		want[id] = true
	}
	if !said || !maps.Equal(worst, want) {
		t.Errorf("got %q, want %s %s alone", r.Results, severity, id)
	}
}

// benign are images that look odd and are right.
var benign = map[string]func() *content{
	"plain": func() *content { return image() },
	"index": two,
	"whiteouts": func() *content {
		return image(entries(reg("etc/.wh.os-release", ""), reg("usr/.wh..wh..opq", ""), reg("usr/new", "")))
	},
	"a link into a lower layer":     func() *content { return image(entries(hardlink("c", "/usr/lib/libc"))) },
	"a link through a symlink":      func() *content { return image(entries(hardlink("c", "lib/libc"))) },
	"absolute names and two dots":   func() *content { return image(entries(reg("/etc/x", ""), reg("..foo", ""), reg("a/../b", ""))) },
	"a file that replaces a folder": func() *content { return image(entries(reg("usr/lib", ""))) },
	"long names and capabilities": func() *content {
		return image(entries(reg(strings.Repeat("d/", 200)+"f", "").with(func(h *tar.Header) {
			h.Format = tar.FormatPAX
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}
		})))
	},
	"a global PAX header at the end": func() *content {
		return image(entries(reg("a", ""), entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}))
	},
	"a folder at the end": func() *content { return image(entries(folder("z"))) },
	"gzip of several members": func() *content {
		raw := archive(reg("a", strings.Repeat("a", 3000)))
		var z bytes.Buffer
		for _, part := range [][]byte{raw[:700], raw[700:]} {
			w := gzip.NewWriter(&z)
			_, err := w.Write(part)
			must(err)
			must(w.Close())
		}
		return image(compressed(ocispec.MediaTypeImageLayerGzip, z.Bytes(), raw))
	},
	"a plain tar":     func() *content { return image(imagetest.Blob(ocispec.MediaTypeImageLayer, archive(reg("a", "")))) },
	"no history":      func() *content { return image().editConfig(func(c map[string]any) { delete(c, "history") }) },
	"no layers":       func() *content { return of(imagetest.New(imagetest.Linux, nil)) },
	"one layer twice": func() *content { l := entries(reg("a", "")); return image(l, l) },
	"labels like keys": func() *content {
		return image().editConfig(func(c map[string]any) {
			c["config"].(map[string]any)["Labels"] = map[string]string{"Digest": "a", "digest": "b"}
		})
	},
	"attestations": func() *content {
		c := two()
		stmt := imagetest.Blob("application/vnd.in-toto+json", []byte("{}"))
		att := of(imagetest.New(oci.Platform{OS: "unknown", Architecture: "unknown"}, nil, stmt))
		maps.Copy(c.files, att.files)
		maps.Copy(c.types, att.types)
		return c.edit(func(m map[string]any) {
			m["manifests"] = append(m["manifests"].([]any), oci.Descriptor{MediaType: att.root.MediaType, Digest: att.root.Digest, Size: att.root.Size,
				Platform: &oci.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}})
		})
	},
}

func TestGoodImagesHaveNoErrorAndNoWarning(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(benign)) {
		t.Run(name, func(t *testing.T) {
			src, item := benign[name]().layout(t)
			r, err := check.Image(t.Context(), src, item, check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Results {
				if slices.Contains([]string{"history-order", "foreign-layer", "duplicate-file", "case-conflict"}, f.Check) && name != "one layer twice" {
					t.Errorf("it says %v", f)
				}
			}
			if r.Errors+r.Warnings != 0 || r.Mode != "full" || r.Image != "org/app" || r.Tag != "1" {
				t.Errorf("got %+v", r)
			}
		})
	}
}
