package main

import (
	"os"
	"path/filepath"
	"strings"
)

// A scenario is one job that every tool does.
type scenario struct {
	name string
	do   string   // the adapters' function
	list string   // profile whose images it is done with, "" for none
	most int      // of the profile's images; 0: all
	kind kind     // what the function is given
	warm bool     // of copies: done again, with nothing to do
	all  bool     // among those that a run without names does
	by   []string // tools that can be the fastest, or that a goal names

	// Flags of the proxies that stand before the registries; nil: none does.
	source, dest []string
	// counted: once more, not timed, with a proxy before the source too.
	counted bool
}

// A kind says what arguments an adapter's function has: see ../tools/TEMPLATE.sh.
type kind int

const (
	bulk       kind = iota // SOURCE DESTINATION LIST
	toRegistry             // SOURCE-IMAGE DESTINATION-IMAGE
	toLayout               // SOURCE-IMAGE FOLDER, which becomes an OCI layout
	toFolder               // SOURCE-IMAGE FOLDER
	toFile                 // SOURCE-IMAGE FILE
	find                   // SOURCE-IMAGE GLOB
	read                   // SOURCE LIST
	listing                // QUAY ORGANISATION DATE
)

// us is the tool that goals are for, as -t names it.
const us = "quaymaster:4"

// searched is the glob of the scenario search.
const searched = "*site-packages*file-0001?.py"

// scenarios are given in the order in which a whole run does them. Profiles
// through proxies with latency are cut to few images.
func scenarios(few int, delay string) []scenario {
	slow := []string{"-delay", delay, "-auth"}
	return []scenario{
		{name: "bulk-org-small", do: "copy_bulk", list: "org-small", warm: true, all: true,
			by: []string{"floor:4", "skopeo-cgo", "skopeo", "oras:4", "crane:4", "regsync:4", us}},
		{name: "bulk-multiarch", do: "copy_bulk_all", list: "multiarch", warm: true, all: true,
			by: []string{"floor:4", "crane:4", "oras:4", "regsync:4", us}},
		{name: "bulk-many-tiny", do: "copy_bulk", list: "many-tiny", warm: true, all: true,
			by: []string{"floor:4", "regsync:4", "oras:4", us}},
		{name: "lat-many-tiny", do: "copy_bulk", list: "many-tiny", most: few, warm: true, all: true, source: slow, dest: slow,
			by: []string{"crane:4", "oras:4", "regctl:4", us}},
		{name: "lat-org-small", do: "copy_bulk", list: "org-small", most: few, warm: true, all: true, source: slow, dest: slow,
			by: []string{"crane:4", "oras:4", "regctl:4", us}},
		{name: "single-many-tiny", do: "copy_bulk", list: "many-tiny", most: few, warm: true, all: true,
			source: []string{"-auth", "-scopes", "1"}, dest: []string{"-auth", "-scopes", "1"}, by: []string{us}},
		{name: "nomount-org-small", do: "copy_bulk", list: "org-small", all: true, dest: []string{"-nomount"}, counted: true,
			by: []string{"skopeo-cgo", "oras:4", "crane:4", "regsync:4", us}},
		{name: "one-copy", do: "copy_one", list: "one-big", kind: toRegistry, all: true,
			by: []string{"floor:4", "skopeo-cgo", "oras", "crane", "regctl", us}},
		{name: "one-oci", do: "to_oci", list: "one-big", kind: toLayout, all: true,
			by: []string{"floor:4", "skopeo-cgo", "oras", "crane", "regctl", us}},
		{name: "one-tar", do: "to_tar", list: "one-big", kind: toFile, all: true,
			by: []string{"skopeo", "skopeo-cgo", "occystrap", us}},
		{name: "normalize", do: "normalize", list: "one-big", kind: toRegistry, all: true,
			by: []string{"ggcr", "regctl", us}},
		{name: "search", do: "search", list: "one-big", kind: find, all: true,
			by: []string{"occystrap", us}},
		{name: "inspect", do: "inspect_bulk", list: "many-tiny", kind: read, all: true,
			by: []string{"floor:4", "oras:4", "crane:4", us}},
		{name: "list-since", do: "list_since", kind: listing, all: true, source: []string{"-limits"}, by: []string{us}},
		{name: "list-since-free", do: "list_since_free", kind: listing, all: true, by: []string{us}},

		{name: "bulk-org-small-8", do: "copy_bulk", list: "org-small", most: 8, warm: true, by: []string{"floor:4", "occystrap", us}},
		{name: "one-dir", do: "to_dir", list: "one-big", kind: toFolder, by: []string{"occystrap", us}},
		{name: "normalize-tar", do: "normalize_tar", list: "one-big", kind: toFile, by: []string{"occystrap", us}},
		{name: "get-org-small", do: "get_bulk", list: "org-small", kind: read, by: []string{"floor:4"}},
		{name: "get-one-big", do: "get_bulk", list: "one-big", kind: read, by: []string{"floor:4"}},
		{name: "getsha-org-small", do: "getsha_bulk", list: "org-small", kind: read, by: []string{"floor:4"}},
		{name: "getsha-one-big", do: "getsha_bulk", list: "one-big", kind: read, by: []string{"floor:4"}},
	}
}

// tokens reports whether tools reach a registry through proxies that want
// tokens, which the floor client doesn't know.
func (s scenario) tokens() bool { return strings.Contains(strings.Join(s.dest, " "), "-auth") }

// images writes the list of the scenario's images to a file of its own if they
// are not the whole profile, and gives its path and its images.
func (s scenario) images(e env) (string, []image, error) {
	path := filepath.Join(e.lists, s.list)
	list, err := readList(path)
	if err != nil || s.most == 0 || s.most >= len(list) {
		return path, list, err
	}
	list = list[:s.most]
	var b strings.Builder
	for _, i := range list {
		b.WriteString(i.String() + "\n")
	}
	path = filepath.Join(e.work, s.name+".list")
	return path, list, os.WriteFile(path, []byte(b.String()), 0o644)
}
