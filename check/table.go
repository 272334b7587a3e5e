package check

// A Check is one thing that is looked for.
type Check struct {
	ID       string
	Severity Severity // of the worst it can say
	Full     bool     // needs the layers
	Gist     string   // when it speaks
}

// Table lists every check. docs/check.md shows it.
var Table = []Check{
	{"manifest-digest", Error, false, "the manifest's bytes are not those of its digest"},
	{"manifest-valid", Error, false, "a manifest or index that can't be read, or in two ways: a key twice, layers and manifests together, data behind the end, a malformed digest or size, docker's schema 1, over 4 MiB"},
	{"schema-version", Error, false, "schemaVersion isn't 2"},
	{"oci-media-type", Info, false, "the manifest is an OCI one"},
	{"docker-media-type", Info, false, "the manifest is a docker one"},
	{"index-child", Error, false, "a manifest that the index lists is missing, or has another digest, size or media type than listed; indexes nested deeper than 4"},
	{"index-platform", Error, false, "the index says another platform than the image's config (a warning: it says none)"},
	{"index-duplicate", Warning, false, "an index lists two images for one platform"},
	{"metadata", Warning, false, "this is no image but an artifact: only digests and sizes are checked"},
	{"config-descriptor", Error, false, "the manifest names no config"},
	{"config-digest", Error, false, "the config's bytes are not those of its digest"},
	{"config-size", Error, false, "the config has another size than the manifest says"},
	{"config-valid", Error, false, "the config can't be read: no JSON, a key twice, a value of a wrong type, over 4 MiB"},
	{"config-platform", Warning, false, "the config doesn't say its os or architecture"},
	{"rootfs-type", Error, false, "rootfs.type isn't `layers`"},
	{"layer-count", Error, false, "the manifest has more or fewer layers than the config has diff_ids"},
	{"history-count", Error, false, "the history has more or fewer entries with a layer than there are layers (no history at all is fine)"},
	{"history-order", Info, false, "an entry of the history is older than one before it; a rebuild with fixed times does that too"},
	{"args-escaped", Warning, false, "config.ArgsEscaped is set, which is deprecated and only Windows knows"},
	{"zstd-compat", Warning, false, "layers of zstd, which Docker before 20.10 and containerd before 1.5 don't read"},
	{"large-layer", Warning, false, "a layer over 1 GiB compressed"},
	{"blob-missing", Error, true, "a layer isn't there, or a config (in fast mode too)"},
	{"foreign-layer", Info, true, "a foreign layer isn't there; registries needn't have it"},
	{"blob-digest", Error, true, "a layer's bytes are not those of its digest"},
	{"blob-size", Error, true, "a layer has another size than the manifest says"},
	{"layer-media-type", Error, true, "a layer isn't compressed as its media type says (a warning: the type is no layer's)"},
	{"layer-compression", Error, true, "damaged or truncated gzip or zstd, or bytes behind its end"},
	{"layer-limits", Error, true, "a decompression bomb: a layer over 256 GiB, 500 times its blob, or 4 million entries; a zstd window over 128 MiB"},
	{"diff-id", Error, true, "the layer's tar is not that of diff_ids (malformed ones: in fast mode too)"},
	{"tar-format", Error, true, "a layer that is no tar, or a truncated one"},
	{"tar-end", Warning, true, "the tar has no end marker, so it may be cut between two entries, or something behind it that some readers take for entries"},
	{"tar-path", Error, true, "a name, or the target of a hard link, climbs out of the root by `..`"},
	{"tar-timestamp", Error, true, "a time before 1970"},
	{"tar-permissions", Warning, true, "setuid or setgid and writable by everyone"},
	{"whiteout", Error, true, "a whiteout of nothing: `.wh.`, `.wh..`, `.wh...`"},
	{"whiteout-size", Warning, true, "a whiteout that isn't an empty file"},
	{"whiteout-same-layer", Warning, true, "a whiteout of what the same layer brings; which of them holds depends on the reader"},
	{"hardlink-dangling", Error, true, "a hard link to what is neither before it in its layer nor in a lower one"},
	{"duplicate-file", Info, true, "a file that several layers have; the lower ones take space for nothing"},
	{"case-conflict", Info, true, "names that differ only by case, which macOS and Windows can't unpack"},
}
