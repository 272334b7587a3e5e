package backend_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

const hex = "3d7fd6c3bb9cdd7e8a1ae4bd0d6b0a2f1c25f6e6f4e25d3c14a13c4b1b1a8c11"

func TestTemplatePath(t *testing.T) {
	svc := backend.Subject{Ref: oci.Ref{Registry: "h.example:5000", Repository: "kolla/team/svc", Tag: "1"}, Digest: "sha256:" + hex, Arch: "armv7"}
	plain := backend.Subject{Ref: oci.Ref{Registry: "quay.io", Repository: "svc"}, Digest: "sha256:" + hex}
	of := func(repo, tag string) backend.Subject {
		return backend.Subject{Ref: oci.Ref{Registry: "quay.io", Repository: repo, Tag: tag}}
	}
	tests := []struct {
		name, template string
		subject        backend.Subject
		want           string // "" is a usage error
	}{
		{"all", "{registry}/{namespace}/{repo}-{name}-{tag}-{arch}", svc, "h.example-5000/kolla/team/svc-svc-1-armv7"},
		{"the repository makes folders", "out/{repo}.tar", svc, "out/team/svc.tar"},
		{"digest", "{digest}", svc, hex},
		{"absolute", "/srv/{name}", svc, "/srv/svc"},
		{"a folder of nothing goes", "{namespace}/{name}", plain, "svc"},
		{"it makes no absolute path", "{namespace}{namespace}/{name}", plain, "svc"},
		{"absolute stays so", "/{namespace}/{name}", plain, "/svc"},
		{"no tag", "{name}-{tag}", plain, "svc-" + hex},
		{"no tag and no digest", "{name}-{tag}", of("svc", ""), ""},
		{"no digest", "{digest}.tar", of("svc", "1"), ""},
		{"the user's own dots", "../{name}", svc, "../svc"},
		{"dots with nothing in them", "{namespace}../{name}", plain, ""},
		{"nothing at all", "{namespace}", plain, ""},
		{"nothing at the end", "a/{namespace}/", plain, ""},
		{"a repository that climbs", "{repo}", of("a/../../etc/passwd", "1"), ""},
		{"a tag that climbs", "{tag}", of("a", ".."), ""},
		{"a tag with folders", "{tag}", of("a", "x/y"), ""},
		{"a host that climbs", "{registry}/x", backend.Subject{Ref: oci.Ref{Registry: "..", Repository: "a"}}, ""},
		{"a digest that is none", "{digest}", backend.Subject{Ref: oci.Ref{Repository: "a"}, Digest: "sha256:../../x"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			template, err := backend.ParseTemplate(tt.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := template.Path(tt.subject)
			if got != tt.want || (tt.want == "") != errors.Is(err, oci.ErrUsage) {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestParseTemplate(t *testing.T) {
	for _, text := range []string{"{repository}", "{}", "{repo}/{Tag}", "{repo", "repo}", "{{repo}}", "{repo-{tag}"} {
		_, err := backend.ParseTemplate(text)
		if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "{registry} {namespace} {repo} {name} {tag} {digest} {arch}") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// In a URI, what is percent-encoded is no part of a placeholder.
func TestURITemplate(t *testing.T) {
	svc := backend.Subject{Ref: oci.Ref{Registry: "quay.io", Repository: "kolla/svc", Tag: "1"}}
	for in, want := range map[string]string{
		"tar://a%3Ab/%7B{name}%7D%25.tar": "a:b/{svc}%.tar",
		"tar://%7Bname%7D/{tag}?x=y":      "{name}/1",
		"tar://localhost/{tag}":           "/1",
		"tar://%2E%2E/{tag}":              "../1",
		"tar://{nosuch}":                  "",
		"tar://{name.tar":                 "",
	} {
		u, err := backend.ParseURI(in)
		if err != nil || !u.HasPlaceholder() {
			t.Fatalf("%s: %v", in, err)
		}
		template, err := u.Template()
		if (err != nil) != (want == "") || err != nil && (!errors.Is(err, oci.ErrUsage) || !strings.HasSuffix(err.Error(), "; a brace of the path itself is %7B or %7D")) {
			t.Fatalf("%s: %v", in, err)
		}
		if err != nil {
			continue
		}
		if got, err := template.Path(svc); got != want {
			t.Errorf("%s: got %q, %v, want %q", in, got, err, want)
		}
	}
	if u, _ := backend.ParseURI("tar://%7Bname%7D.tar"); u.HasPlaceholder() {
		t.Error("what is percent-encoded is a placeholder")
	}
}

func TestEscapePath(t *testing.T) {
	for _, path := range []string{"a b/c.tar", "localhost/x", "/a:b{c}50%?x=y", "%7B%3a", "../ä"} {
		u, err := backend.ParseURI("tar://" + backend.EscapePath(path))
		if err != nil {
			t.Fatal(err)
		}
		if got, ref, err := u.Path(); strings.TrimPrefix(got, "./") != path || ref != "" || err != nil || u.HasPlaceholder() {
			t.Errorf("%s: got %q, %q, %v", path, got, ref, err)
		}
	}
}

// FuzzTemplatePath: no name leads out of the folder that the template names.
func FuzzTemplatePath(f *testing.F) {
	f.Add("{namespace}/{repo}-{tag}", "quay.io", "kolla/team/svc", "1", "sha256:"+hex)
	f.Add("{repo}../{tag}", "..", "../x", "..", "../..")
	f.Fuzz(func(t *testing.T, text, registry, repo, tag, digest string) {
		template, err := backend.ParseTemplate(text)
		if err != nil || strings.Contains(text, "..") || strings.HasPrefix(text, "/") {
			return
		}
		path, err := template.Path(backend.Subject{Ref: oci.Ref{Registry: registry, Repository: repo, Tag: tag}, Digest: oci.Digest(digest), Arch: "amd64"})
		if err != nil {
			return
		}
		for part := range strings.SplitSeq(path, "/") {
			if part == ".." {
				t.Fatalf("%q leads to %q", text, path)
			}
		}
		if strings.HasPrefix(path, "/") || path == "" {
			t.Fatalf("%q leads to %q", text, path)
		}
	})
}
