//go:build interop

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// mergerPy lets pubtools-quay's merger and its client work: a line of JSON asks, a
// line answers. Its answer is what it uploads. Of a selection it uploads the source's
// bytes where the entries are the source's, as its tag-docker does.
const mergerPy = `
import json, sys
from pubtools._quay.manifest_list_merger import ManifestListMerger
from pubtools._quay.quay_client import QuayClient

def upload_selected(client, merger, ask):
    merged = merger.merge_manifest_lists_selected_architectures(ask["architectures"])
    source = client.get_manifest(ask["source"], raw=True)
    in_order = lambda entries: sorted(entries, key=lambda e: e["digest"])
    if in_order(merged["manifests"]) == in_order(json.loads(source)["manifests"]):
        client.upload_manifest(source, ask["dest"], raw=True)
    else:
        client.upload_manifest(merged, ask["dest"])

for line in sys.stdin:
    ask = json.loads(line)
    client = QuayClient(None, None, ask["url"])
    del client.session.session.headers["Host"]  # which it gives the URL, scheme and all
    merger = ManifestListMerger(ask["source"], ask["dest"])
    merger.set_quay_clients(client, client)
    answer = {}
    try:
        if ask["architectures"] is None:
            merger.merge_manifest_lists()
        else:
            upload_selected(client, merger, ask)
    except Exception as e:
        answer["error"] = repr(e)
    print(json.dumps(answer), flush=True)
`

// A pubtools is pubtools-quay's merger at work.
type pubtools struct {
	in  io.Writer
	out *bufio.Scanner
}

// An ask is what the merger is asked. Architectures nil: all that the destination lacks.
type ask struct {
	URL           string   `json:"url"`
	Source        string   `json:"source"`
	Dest          string   `json:"dest"`
	Architectures []string `json:"architectures"`
}

// startPubtools starts the merger that scripts/set-up-interop.sh installs. It ends
// with the test.
func startPubtools(t *testing.T) *pubtools {
	t.Helper()
	python, err := filepath.Abs("../../.bin/pubtools-quay/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", mergerPy) // it ends with its input
	cmd.Env = toolEnv(t)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run make interop", err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("pubtools-quay: %v\n%s", err, stderr.String())
		}
	})
	return &pubtools{in, bufio.NewScanner(out)}
}

// merge lets the merger merge; it gives its error, "" for none.
func (p *pubtools) merge(t *testing.T, a ask) string {
	t.Helper()
	line, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil || !p.out.Scan() {
		t.Fatalf("pubtools-quay is gone: %v, %v", err, p.out.Err())
	}
	var answer struct{ Error string }
	if err := json.Unmarshal(p.out.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Error
}

// A shelf is a registry of two tags, source and dest, that takes any list, whether its
// entries are there or not.
type shelf struct {
	mu    sync.Mutex
	lists map[string]served
	put   *served
}

// served is a list with the type that it is served as.
type served struct {
	mt  oci.MediaType
	raw []byte
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, tag, _ := strings.Cut(r.URL.Path, "/manifests/")
	if r.Method == http.MethodPut {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.put = &served{r.Header.Get("Content-Type"), raw}
		w.WriteHeader(http.StatusCreated)
		return
	}
	l, ok := s.lists[tag]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", l.mt)
	_, _ = w.Write(l.raw)
}

// theirs gives what pubtools-quay uploads where dest, nil for none, gets source. An
// error of its has no bytes.
func (s *shelf) theirs(t *testing.T, p *pubtools, url string, source served, dest *served, architectures []string) (served, string) {
	t.Helper()
	s.mu.Lock()
	s.put, s.lists = nil, map[string]served{"source": source}
	if dest != nil {
		s.lists["dest"] = *dest
	}
	s.mu.Unlock()
	fault := p.merge(t, ask{url, "host/team/app:source", "host/team/app:dest", architectures})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.put == nil {
		return served{}, fault
	}
	return *s.put, fault
}

// ours gives what index.Merge makes of the same.
func ours(source served, dest *served, architectures []string) (served, error) {
	src, err := index.Parse(source.mt, source.raw)
	if err != nil {
		return served{}, err
	}
	var dst *index.Index
	if dest != nil {
		if dst, err = index.Parse(dest.mt, dest.raw); err != nil {
			return served{}, err
		}
	}
	opt := index.Options{Style: index.Pubtools}
	if architectures != nil {
		opt.Eligible = func(p oci.Platform) bool { return slices.Contains(architectures, p.Architecture) }
	}
	res, err := index.Merge(src, dst, opt)
	if err != nil {
		return served{}, err
	}
	return served{res.Desc.MediaType, res.Raw}, nil
}

// interopMerge lets pubtools-quay and us merge the same lists.
func interopMerge(t *testing.T) {
	p, s := startPubtools(t), &shelf{}
	url := serve(t, s, nil).URL
	t.Run("A19 any lists", func(t *testing.T) { mergeAnyLists(t, p, s, url) })
	t.Run("differences", func(t *testing.T) { mergeDifferences(t, p, s, url) })
	t.Run("A5 A7 A19 commands", func(t *testing.T) { mergeCommands(t, p) })
}

// mergeAnyLists: of docker lists of one OS, one variant for each architecture, each
// there once, the two make the same bytes, to add what is missing as well as to select.
func mergeAnyLists(t *testing.T, p *pubtools, s *shelf, url string) {
	const lists = 400
	raw, whole, selected, empty := 0, 0, 0, 0
	for seed := range uint64(lists) {
		r := rand.New(rand.NewPCG(seed, 19))
		var architectures []string
		if r.IntN(2) == 0 {
			architectures = []string{}
			for _, a := range listArchitectures {
				if r.IntN(2) == 0 {
					architectures = append(architectures, a)
				}
			}
		}
		g := generator{r, architectures == nil}
		source := g.list(nil)
		dest := new(g.list(g.entriesOf(source)))
		if architectures != nil && r.IntN(6) == 0 {
			dest = nil
		}
		got, err := ours(source, dest, architectures)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want, fault := s.theirs(t, p, url, source, dest, architectures)
		if fault != "" || string(got.raw) != string(want.raw) || got.mt != want.mt {
			t.Fatalf("seed %d: %s\nand %s\ngive %s %s\nbut to pubtools-quay %s %s %s", seed, source.raw, dest, got.mt, got.raw, fault, want.mt, want.raw)
		}
		switch {
		case string(got.raw) == string(source.raw):
			raw++
		case strings.Contains(string(got.raw), `"manifests": []`):
			empty++
		case architectures == nil:
			whole++
		default:
			selected++
		}
	}
	for what, n := range map[string]int{"sources as they were": raw, "merges": whole, "selections": selected, "empty lists": empty} {
		if n < 5 {
			t.Errorf("only %d %s among %d lists", n, what, lists)
		}
	}
}

// mergeDifferences are where the two differ on purpose. A number is that of the fault
// in pubtools-quay's description; the others are what a list is better for.
func mergeDifferences(t *testing.T, p *pubtools, s *shelf, url string) {
	d, o := oci.MediaTypeDockerList, oci.MediaTypeIndex
	entry := func(mt oci.MediaType, name, rest string) string {
		return fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":"sha256:%s%s"%s}`, mt, name, strings.Repeat("0", 64-len(name)), rest)
	}
	docker := func(name, platform string) string {
		return entry(oci.MediaTypeDockerManifest, name, `,"platform":{`+platform+`}`)
	}
	att := func(name, about string) string {
		return entry(oci.MediaTypeDockerManifest, name, `,"platform":{"architecture":"unknown","os":"unknown"},"annotations":{`+
			`"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"sha256:`+about+strings.Repeat("0", 64-len(about))+`"}`)
	}
	list := func(mt oci.MediaType, entries ...string) served {
		return served{mt, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, mt, strings.Join(entries, ","))}
	}
	amd64, arm64 := docker("aa", `"os":"linux","architecture":"amd64"`), docker("bb", `"os":"linux","architecture":"arm64"`)
	ociARM64 := entry(oci.MediaTypeManifest, "bb", `,"platform":{"os":"linux","architecture":"arm64"}`)
	single := served{oci.MediaTypeDockerManifest, []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerManifest + `","config":` + entry("x", "cc", "") + `,"layers":[]}`)}
	untyped := served{o, []byte(`{"schemaVersion":2,"manifests":[` + ociARM64 + `]}`)}
	arm := func(name, variant string) string {
		return docker(name, `"os":"linux","architecture":"arm","variant":"`+variant+`"`)
	}
	windows := func(name, version string) string {
		return docker(name, `"os":"windows","architecture":"amd64","os.version":"`+version+`"`)
	}
	accents := served{d, []byte(strings.Replace(string(list(d, amd64).raw), `}]`, `,"annotations":{"a":"ü€"}}]`, 1))}

	tests := []struct {
		name          string
		source, dest  served
		architectures []string
		theirs, ours  string
	}{
		{"8 OCI indexes are no lists", list(o, ociARM64), list(o, amd64), nil, "ManifestTypeError", "oci bb aa"},
		{"8 an OCI image that is kept in a docker list", list(d, amd64), list(d, ociARM64), nil, "docker aa bb", "oci aa bb"},
		{"8 an index without mediaType becomes docker's schema 1", untyped, list(o, amd64), []string{"arm64"}, "schema1 bb aa", "oci bb aa"},
		{"9 arm/v6 is lost for arm/v7", list(d, arm("aa", "v7")), list(d, arm("b6", "v6"), arm("b7", "v7")), nil, "docker aa", "docker aa b6"},
		{"9 arm/v6 is lost for arm/v7, selected", list(d, arm("aa", "v7")), list(d, arm("b6", "v6"), arm("b7", "v7")), []string{"arm"}, "docker aa", "docker aa b6"},
		{"9 Windows is lost for Linux", list(d, amd64), list(d, windows("bb", "10.0.17763.1")), nil, "docker aa", "docker aa bb"},
		{"9 a build of Windows is lost for another", list(d, windows("aa", "10.0.20348.1")), list(d, windows("bb", "10.0.17763.1")), nil, "docker aa", "docker aa bb"},
		{"9 two names of one architecture stay both", list(d, amd64), list(d, docker("bb", `"os":"linux","architecture":"x86_64"`)), nil, "docker aa bb", "docker aa"},
		{"9 an attestation stays without its image", list(d, amd64), list(d, docker("bb", `"os":"linux","architecture":"amd64"`), att("cc", "bb")), nil, "docker aa cc", "docker aa"},
		{"9 an attestation goes though its image stays", list(d, amd64, att("a1", "aa")), list(d, arm64, att("b1", "bb")), nil, "docker aa a1 bb", "docker aa a1 bb b1"},
		{"10 an entry without a platform", list(d, amd64), list(d, entry(oci.MediaTypeDockerManifest, "bb", "")), nil, "KeyError('platform')", "docker aa bb"},
		{"10 a single image there", list(d, amd64), single, nil, "ManifestTypeError", "invalid content: " + oci.MediaTypeDockerManifest + " is a single manifest, no list"},
		{"10 a single image there, selected", list(d, amd64), single, []string{"amd64"}, "KeyError('manifests')", "invalid content: " + oci.MediaTypeDockerManifest + " is a single manifest, no list"},
		{"24 a source that isn't ASCII, as it was", accents, list(d, amd64), []string{"amd64"}, "UnicodeEncodeError", "docker aa"},
		{"one image twice there", list(d, amd64), list(d, arm64, arm64), nil, "docker aa bb bb", "docker aa bb"},
		{"numbers are spelt anew", list(d, docker("aa", `"os":"linux","architecture":"amd64","x":1.50`)), list(d, arm64), nil, "docker aa bb", "docker aa bb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			theirs, fault := s.theirs(t, p, url, tt.source, &tt.dest, tt.architectures)
			their := said(theirs, fault)
			if name, _, ok := strings.Cut(their, "("); ok && !strings.Contains(tt.theirs, "(") {
				their = name // what an error says of digests and hosts
			}
			made, err := ours(tt.source, &tt.dest, tt.architectures)
			our := said(made, "")
			if err != nil {
				our = err.Error()
			}
			if their != tt.theirs || our != tt.ours {
				t.Errorf("pubtools-quay: %s, want %s\nwe: %s, want %s", their, tt.theirs, our, tt.ours)
			}
			if theirs.mt == made.mt && string(theirs.raw) == string(made.raw) && their == our {
				t.Error("they don't differ")
			}
		})
	}
}

// said gives the type and the entries of an upload, or the error where there is none.
func said(l served, fault string) string {
	if l.raw == nil {
		return fault
	}
	var list struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(l.raw, &list); err != nil {
		return err.Error()
	}
	words := []string{map[oci.MediaType]string{oci.MediaTypeDockerList: "docker", oci.MediaTypeIndex: "oci", oci.MediaTypeDockerSchema1: "schema1"}[l.mt]}
	for _, e := range list.Manifests {
		words = append(words, strings.TrimRight(strings.TrimPrefix(e.Digest, "sha256:"), "0"))
	}
	return strings.Join(words, " ")
}

// mergeCommands lets the programs merge the same tags of a real registry.
func mergeCommands(t *testing.T, p *pubtools) {
	r := startRegistry(t, nil)
	source := imagetest.Index(image(41, 3000, "arm64"), image(42, 3000, "ppc64le"), image(43, 3000, "s390x")).Docker()
	before := imagetest.Index(image(44, 3000, "arm64"), image(45, 3000, "armhfp"), image(46, 3000, "ppc64le"), image(47, 3000, "amd64")).Docker()
	for tag, img := range map[string]imagetest.Image{"source": source, "theirs": before, "ours": before, "select-ours": before, "select-theirs": before} {
		if err := img.Push(t.Context(), r.URL, "team/app", tag, ""); err != nil {
			t.Fatal(err)
		}
	}
	name := r.host + "/team/app"
	for _, tt := range []struct {
		prefix        string
		architectures []string
		flags         []string
	}{
		{"", nil, nil},
		{"select-", []string{"arm64", "s390x"}, []string{"--only", "arm64,s390x"}},
	} {
		if fault := p.merge(t, ask{r.URL, name + ":source", name + ":" + tt.prefix + "theirs", tt.architectures}); fault != "" {
			t.Fatal(fault)
		}
		must(t, append([]string{"--plain-http", "merge", "--json-style", "pubtools", name + ":source", name + ":" + tt.prefix + "ours"}, tt.flags...)...)
		theirs, ours := manifestAt(t, r.URL+"/v2/team/app/manifests/"+tt.prefix+"theirs"), manifestAt(t, r.URL+"/v2/team/app/manifests/"+tt.prefix+"ours")
		if string(theirs.raw) != string(ours.raw) || theirs.mt != ours.mt || digest.FromBytes(ours.raw) == before.Desc.Digest {
			t.Errorf("pubtools-quay %s: %s %s\nwe: %s %s", tt.prefix, theirs.mt, theirs.raw, ours.mt, ours.raw)
		}
	}
}

// manifestAt gives what the list at url is.
func manifestAt(t *testing.T, url string) served {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", oci.MediaTypeDockerList)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, res.Status, err)
	}
	return served{res.Header.Get("Content-Type"), raw}
}
