package publish_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// wants gives what a plan wants: "src -> dest dest (kind)", a line for each item.
func wants(p *publish.Plan) string {
	var b strings.Builder
	for _, item := range p.Items {
		fmt.Fprintf(&b, "%s ->", item.Source)
		for _, d := range item.Dests {
			fmt.Fprintf(&b, " %s", d.Ref)
		}
		if item.Kind != "" {
			fmt.Fprintf(&b, " (%s)", item.Kind)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestParsePlan(t *testing.T) {
	all := publish.PlanOptions{Registry: "quay.io", Namespace: "some-namespace", SourceRegistry: "reg.example"}
	flat := all
	flat.Names = publish.NamesFlatten
	tests := []struct {
		name string
		opt  publish.PlanOptions
		text string
		want string
	}{
		{"upstream's items, as JSON", flat, `[
	{"file_type": "docker", "errors": {}, "repos": {"x": []}, "external_repos": {}, "claims_signing_key": null, "origin": "x", "state": "PENDING",
	 "metadata": {"pull_url": "some-registry/src/repo:2", "pull_data": {"registry": "r"}, "v_r": "1", "product_name": "p", "destination": {"tags": {}},
		"tags": {"target/repo": ["latest-test-tag", "1.0"]}, "arch": "amd64",
		"build": {"build_id": 1, "extra": {"image": {"sources_for_nvr": "some-src", "media_types": ["x"]}}}}},
	{"metadata": {"pull_url": "some-registry/src/repo:1", "tags": {"target/repo": ["latest"]}, "build": {"extra": {}}}}
]`, `reg.example/some-registry/src/repo:2 -> quay.io/some-namespace/target----repo:latest-test-tag quay.io/some-namespace/target----repo:1.0 (source)
reg.example/some-registry/src/repo:1 -> quay.io/some-namespace/target----repo:latest
`},
		{"defaults in the plan", publish.PlanOptions{}, `
# what goes out on Fridays
registry: quay.io/   # A20: a slash at its end is no part of it
namespace: /org/
source_registry: reg.example
repo_names: "{namespace}-{name}"
items:
  - {pull_url: src/a:1, tags: {team/x/app: [v1]}, kind: multiarch}
  - pull_url: docker://other.example/b@sha256:` + strings.Repeat("0", 64) + `
    tags: {ops/app: [v2]}
`, `reg.example/src/a:1 -> quay.io/org/team-app:v1 (multiarch)
other.example/b@sha256:` + strings.Repeat("0", 64) + ` -> quay.io/org/ops-app:v2
`},
		{"complete names of repositories", publish.PlanOptions{}, `
- pull_url: localhost:5000/ns/img:1
  tags: {"localhost:5001/a/b": [x], quay.io/c/d: [y]}
`, "localhost:5000/ns/img:1 -> localhost:5001/a/b:x quay.io/c/d:y\n"}, // A40 in a plan
		{"A40 a name with tag and digest", all, `
- pull_url: ns/img:1@sha256:` + strings.Repeat("a", 64) + `
  tags: {r: [x]}
`, "reg.example/ns/img:1@sha256:" + strings.Repeat("a", 64) + " -> quay.io/some-namespace/r:x\n"},
		{"A38 repositories are sorted, tags keep their order, each once", all, `
- {pull_url: a:1, tags: {"b/x": ["1", "1"], "a/y": ["2"]}}
- {pull_url: b:1, kind: source, tags: {"b/z": ["2", "1", "2"], "a/z": ["2"]}}
`, `reg.example/a:1 -> quay.io/some-namespace/a/y:2 quay.io/some-namespace/b/x:1
reg.example/b:1 -> quay.io/some-namespace/a/z:2 quay.io/some-namespace/b/z:2 quay.io/some-namespace/b/z:1 (source)
`},
		{"A74 items of one pull_url are one, with the tags of all", all, `
- {pull_url: a:1, tags: {r: [x]}, arch: amd64}
- {pull_url: b:1, tags: {r: [y]}}
- {pull_url: a:1, tags: {r: [z, x], q: [x]}, arch: arm64}
`, `reg.example/a:1 -> quay.io/some-namespace/q:x quay.io/some-namespace/r:x quay.io/some-namespace/r:z
reg.example/b:1 -> quay.io/some-namespace/r:y
`},
		{"tags that look like numbers stay what they are", all, "- pull_url: a:1\n  tags:\n    r:\n      - 1.0\n      - 1e3\n      - 010\n      - true\n      - 2024-01-01\n",
			"reg.example/a:1 -> quay.io/some-namespace/r:1.0 quay.io/some-namespace/r:1e3 quay.io/some-namespace/r:010 quay.io/some-namespace/r:true quay.io/some-namespace/r:2024-01-01\n"},
		{"anchors", all, "- {pull_url: a:1, tags: {r: &t [x, y]}}\n- {pull_url: b:1, tags: {q: *t}}\n",
			"reg.example/a:1 -> quay.io/some-namespace/r:x quay.io/some-namespace/r:y\nreg.example/b:1 -> quay.io/some-namespace/q:x quay.io/some-namespace/q:y\n"},
		{"nor are words what YAML might take them for", all, "- pull_url: a:1\n  tags:\n    no: [yes, NO, 0x10, 1_000, 'null', !!str 2.0]\n",
			"reg.example/a:1 -> quay.io/some-namespace/no:yes quay.io/some-namespace/no:NO quay.io/some-namespace/no:0x10 quay.io/some-namespace/no:1_000 quay.io/some-namespace/no:null quay.io/some-namespace/no:2.0\n"},
		{"hosts have no case", publish.PlanOptions{}, "- {pull_url: q.io/a:1, tags: {Quay.IO/r: [x], quay.io/r: [x, y]}}\n", "q.io/a:1 -> quay.io/r:x quay.io/r:y\n"},
		{"what is no image is skipped", all, "- {file_type: operator, metadata: {iib: x}, whatever: 1}\n- {pull_url: a:1, tags: {r: [x]}}\n",
			"reg.example/a:1 -> quay.io/some-namespace/r:x\n"},
		{"BOM and CRLF", all, "\ufeff- pull_url: a:1\r\n  tags:\r\n    r: [x]\r\n", "reg.example/a:1 -> quay.io/some-namespace/r:x\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := publish.ParsePlan("plan.yaml", []byte(tt.text), tt.opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := wants(p); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestPlanFaults(t *testing.T) {
	opt := publish.PlanOptions{Registry: "quay.io", Namespace: "org", SourceRegistry: "reg.example"}
	flat := opt
	flat.Names = publish.NamesFlatten
	tests := []struct {
		name string
		opt  publish.PlanOptions
		text string
		want string // lines that the error has, in this order and no others
	}{
		{"all at once, by line", opt, `- pull_url: a:1
  tags: {r: [x], "R!": [y]}
  knd: single
- tags: {r: [.x]}
  kind: sauce
- pull_url: b
  tags: {}
`, `plan.yaml:2:18: item 1: repository "R!": "R!" is no name for a repository
plan.yaml:3:3: item 1: unknown key "knd"
plan.yaml:4:3: item 2: it has no pull_url
plan.yaml:4:14: item 2: ".x" is no tag
plan.yaml:5:9: item 2: kind: "sauce"; write source, single or multiarch
plan.yaml:6:3: item 3: it has no tags
plan.yaml:6:13: item 3: "b" names neither a tag nor a digest`},
		{"A74 an item with errors", opt, `[{"pull_url": "a:1", "tags": {"r": ["x"]}, "errors": {"signing": "no key"}}]`,
			`plan.yaml:1:44: item 1: it has errors of its own: "{\"signing\": \"no key\"}"`},
		{"A74 an item without pull data", opt, `[{"metadata": {"tags": {"r": ["x"]}}}]`, `plan.yaml:1:2: item 1: it has no pull_url`},
		{"two sources for one tag", opt, "- {pull_url: a:1, tags: {r: [x]}}\n- {pull_url: b:1, tags: {r: [x]}}\n",
			`plan.yaml:2:3: item 2: quay.io/org/r:x is to be what item 1 has, reg.example/a:1`},
		{"two sources for one tag of a host that has two spellings", publish.PlanOptions{}, "- {pull_url: q.io/a:1, tags: {quay.io/r: [x]}}\n- {pull_url: q.io/b:1, tags: {Quay.io/r: [x]}}\n",
			`plan.yaml:2:3: item 2: quay.io/r:x is to be what item 1 has, q.io/a:1`},
		{"no tags", opt, "- {pull_url: a:1, tags: {r: [], q: [null], p: 1.0, o: [~]}}\n", `plan.yaml:1:26: item 1: tags: r gets no tags
plan.yaml:1:37: item 1: tags: q: it has to be one word; "null" means nothing unless it is in quotes
plan.yaml:1:47: item 1: tags: p: it has to be a list
plan.yaml:1:56: item 1: tags: o: it has to be one word; "~" means nothing unless it is in quotes`},
		{"A39 names that can't be flattened", flat, "- {pull_url: a:1, tags: {/x: [x], x/: [x], a/b/c: [x]}}\n",
			`plan.yaml:1:26: item 1: repository "/x": it has to be NAMESPACE/REPOSITORY, or a name without "/"
plan.yaml:1:35: item 1: repository "x/": it has to be NAMESPACE/REPOSITORY, or a name without "/"
plan.yaml:1:44: item 1: repository "a/b/c": it has to be NAMESPACE/REPOSITORY, or a name without "/"`},
		{"a registry twice", opt, "- {pull_url: a:1, tags: {example.com/x: [x]}}\n",
			`plan.yaml:1:26: item 1: repository "example.com/x" names a registry, and the plan has one for all: quay.io`},
		{"no registry", publish.PlanOptions{SourceRegistry: "reg.example"}, "- {pull_url: a:1, tags: {x: [x]}}\n",
			`plan.yaml:1:26: item 1: repository "x" names no registry, and the plan has none: --registry, or registry in the plan`},
		{"keys of the whole", opt, "itms: []\nitems: []\n", `plan.yaml:1:1: unknown key "itms"; there are items, registry, namespace, source_registry and repo_names`},
		{"nothing to do", opt, "items: []\n", `plan.yaml: no item is to be pushed`},
		{"empty", opt, "# nothing\n", `plan.yaml: it is empty`},
		{"a key twice", opt, "items: []\nitems: []\n", `plan.yaml:2:1: mapping key "items" already defined at [1:1]`},
		{"broken YAML", opt, "- pull_url: [a\n", `plan.yaml:1:13: sequence end token ']' not found`},
		{"a tab", opt, "- pull_url: a:1\n\ttags: {r: [x]}\n", `plan.yaml:2:1: found character '\t' that cannot start any token`},
		{"two documents", opt, "- {pull_url: a:1, tags: {r: [x]}}\n---\n- {}\n", `plan.yaml:3:1: a second document: a plan is one`},
		{"merge keys", opt, "- {pull_url: a:1, tags: {r: [x]}, <<: {}}\n", `plan.yaml:1:35: item 1: << is not understood: write it out`},
		{"an alias of nothing", opt, "- {pull_url: *a, tags: {r: [x]}}\n", `plan.yaml:1:14: nothing has the anchor "a"`},
		{"items for other commands", opt, "- {pull_url: a:1, tags: {r: [x]}, metadata: {add_tags: [x]}}\n",
			`plan.yaml:1:46: item 1: metadata: add_tags: it is for the commands tag add and tag remove`},
		{"kinds that differ", opt, "- {pull_url: a:1, tags: {r: [x]}}\n- {pull_url: a:1, tags: {r: [y]}, kind: source}\n",
			`plan.yaml:2:3: item 2: it says other than item 1 what reg.example/a:1 is`},
		{"a name for no namespace", publish.PlanOptions{Namespace: "org"}, "- {pull_url: q.io/a:1, tags: {q.io/r: [x]}}\n", `plan.yaml: it has a namespace and no registry`},
		{"a registry that is none", publish.PlanOptions{Registry: "quay"}, "- {pull_url: q.io/a:1, tags: {r: [x]}}\n",
			`plan.yaml:1:31: item 1: "quay" is no registry: write host[:port], with a dot or a port unless it is localhost`},
		{"an unknown policy", publish.PlanOptions{Registry: "q.io", Names: "flat"}, "- {pull_url: q.io/a:1, tags: {r: [x]}}\n",
			`plan.yaml: repository names "flat": write nested, flatten, or a template of {namespace}, {repo} and {name}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := publish.ParsePlan("plan.yaml", []byte(tt.text), tt.opt)
			if !errors.Is(err, oci.ErrUsage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// What a plan can't be is told in no time and no memory, whatever is in it.
func TestPlanBounds(t *testing.T) {
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	var bomb strings.Builder // tags that few lines stand for
	bomb.WriteString("- {pull_url: a:0, tags: &t {r0: &l [x")
	for i := range 2000 {
		fmt.Fprintf(&bomb, ", x%d", i)
	}
	bomb.WriteString("]")
	for i := range 2000 {
		fmt.Fprintf(&bomb, ", r%d: *l", i+1)
	}
	bomb.WriteString("}}\n")
	for i := range 2000 {
		fmt.Fprintf(&bomb, "- {pull_url: a:%d, tags: *t}\n", i+1)
	}
	var keys strings.Builder
	for n := range 400_000 {
		fmt.Fprintf(&keys, "k%d: v\n", n)
	}
	for name, text := range map[string]string{
		"brackets":             strings.Repeat("[", 1<<20),
		"braces":               strings.Repeat("{a: ", 1<<18),
		"lists of lists":       strings.Repeat("- ", 1<<18),
		"keys of keys":         strings.Repeat("? ", 1<<18),
		"keys":                 keys.String(),
		"a billion laughs":     laughs + "items: *a9\n",
		"an alias of itself":   "- &a {pull_url: *a, tags: {r: [*a]}}\n",
		"aliases in circles":   "items: &a *b\nregistry: &b *a\n",
		"tags behind aliases":  bomb.String(),
		"more bytes than plan": "# " + strings.Repeat("x", 9<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := publish.ParsePlan("p", []byte(text), publish.PlanOptions{Registry: "quay.io", SourceRegistry: "reg.example"})
			if !errors.Is(err, oci.ErrUsage) {
				t.Errorf("got %v, want a usage error", err)
			}
			if err != nil && len(err.Error()) > 20_000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestPlanTooLarge(t *testing.T) {
	_, err := publish.ParsePlan("p", make([]byte, 8<<20+1), publish.PlanOptions{})
	if err == nil || err.Error() != "p: more than 8 MiB, which is the limit" {
		t.Errorf("got %v, want the limit", err)
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte("- {pull_url: a:1, tags: {r: &t [x], q: *t}, kind: source}\n"))
	f.Add([]byte(`{"registry": "quay.io", "items": [{"metadata": {"pull_url": "a:1", "tags": {"r": ["1.0"]}, "build": {}}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		p, err := publish.ParsePlan("p", raw, publish.PlanOptions{SourceRegistry: "reg.example"})
		if err != nil {
			if !errors.Is(err, oci.ErrUsage) {
				t.Fatalf("%v is no usage error", err)
			}
			return
		}
		if len(p.Items) == 0 {
			t.Fatal("a plan without items")
		}
		for _, item := range p.Items {
			for _, d := range item.Dests {
				if again, err := oci.ParseRef(d.String(), ""); err != nil || again != d.Ref {
					t.Fatalf("%v is no tag: %v", d.Ref, err)
				}
			}
		}
	})
}

func TestFlattenName(t *testing.T) {
	for _, tt := range []struct{ name, flat string }{
		{"namespace/repo", "namespace----repo"}, // A39
		{"namespace-repo", "namespace-repo"},
	} {
		flat, err := publish.FlattenName(tt.name)
		if err != nil || flat != tt.flat {
			t.Errorf("%s gave %q, %v, want %q", tt.name, flat, err, tt.flat)
		}
		back, err := publish.UnflattenName(tt.flat)
		if err != nil || back != tt.name {
			t.Errorf("%s gave %q, %v, want %q", tt.flat, back, err, tt.name)
		}
	}
	for _, bad := range []string{"", "/x", "x/", "a/b/c", "/"} { // A39
		if got, err := publish.FlattenName(bad); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q gave %q, %v, want a usage error", bad, got, err)
		}
		flat := strings.ReplaceAll(bad, "/", "----")
		if got, err := publish.UnflattenName(flat); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q gave %q, %v, want a usage error", flat, got, err)
		}
	}
}
