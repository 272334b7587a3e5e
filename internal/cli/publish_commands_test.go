package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// publishing prepares a script for the verbs that move tags: the organisation upstream
// of $MIRROR has the robot upstream+ci, whose password is $CI and who may make and
// write repositories, and nothing else.
func publishing(s servers, setenv func(name, value string)) error {
	mirror := s["MIRROR"]
	setenv("CI", mirror.AddRobot("upstream", "ci"))
	if err := mirror.SetDefault("upstream", "upstream+ci", "write"); err != nil {
		return err
	}
	return mirror.AddTeam("upstream", "makers", "creator", "upstream+ci")
}

// list SERVER REPO TAG NAME PLATFORM=TEXT...: lets TAG mean a list of images that hold
// texts; $NAME is its digest from then on, and each $TEXT that of an image.
func cmdList(ts *testscript.TestScript, _ bool, args []string) {
	var children []imagetest.Image
	for _, arg := range args[4:] {
		platform, text, _ := strings.Cut(arg, "=")
		parts := append(strings.Split(platform, "/"), "")
		img := imagetest.New(oci.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}, nil, imagetest.Files(map[string]string{"app": text}))
		ts.Setenv(text, string(img.Desc.Digest))
		children = append(children, img)
	}
	list := imagetest.Index(children...)
	ts.Setenv(args[3], string(list.Desc.Digest))
	ts.Check(serversOf(ts)[args[0]].Push(context.Background(), args[1], args[2], list))
}

// image SERVER REPO TAG TEXT: lets TAG mean an image that holds TEXT; $TEXT is its digest.
func cmdImage(ts *testscript.TestScript, _ bool, args []string) {
	img := textImage(args[3])
	ts.Setenv(args[3], string(img.Desc.Digest))
	ts.Check(serversOf(ts)[args[0]].Push(context.Background(), args[1], args[2], img))
}

// moved SERVER REPO TAG TEXT: somebody lets TAG mean the image that holds TEXT, which
// is there; or, without TEXT, deletes it.
func cmdMoved(ts *testscript.TestScript, _ bool, args []string) {
	s := serversOf(ts)[args[0]]
	if len(args) == 3 {
		ts.Check(s.DeleteTag(args[1], args[2]))
		return
	}
	ts.Check(s.MoveTag(args[1], args[2], textImage(args[3]).Desc.Digest))
}

// breaks SERVER KIND PATH STATUS: from now on the server answers requests of that kind
// (quaytest.Kind) for paths that end in PATH with that status; 0 stops that.
func cmdBreaks(ts *testscript.TestScript, _ bool, args []string) {
	f := serversOf(ts)[args[0]]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = outage{kind: args[1], path: args[2], status: atoi(ts, args[3])}
}

// An outage is a kind of request that fails.
type outage struct {
	kind, path string
	status     int
}

// means SERVER REPO:TAG DIGEST|none: what the tag means now.
func cmdMeans(ts *testscript.TestScript, neg bool, args []string) {
	repo, tag, _ := strings.Cut(args[1], ":")
	got := "none"
	now := time.Now()
	for _, t := range savedTags(ts, args[0], repo) {
		if t.Name == tag && (t.End.IsZero() || t.End.After(now)) {
			got = t.Digest
		}
	}
	if (got != args[2]) != neg {
		ts.Fatalf("%s means %s, want %s", args[1], got, args[2])
	}
}

// tags SERVER REPO TAG...: the living tags of a repository are these.
func cmdTags(ts *testscript.TestScript, _ bool, args []string) {
	got := []string{}
	now := time.Now()
	for _, t := range savedTags(ts, args[0], args[1]) {
		if t.End.IsZero() || t.End.After(now) {
			got = append(got, t.Name)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(args[2:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("%s has %q, want %q", args[1], got, want)
	}
}

type savedTag struct {
	Name   string
	Digest string
	End    time.Time
	Hidden bool
}

// savedTags asks nobody, so no request is counted.
func savedTags(ts *testscript.TestScript, server, repo string) []savedTag {
	var raw bytes.Buffer
	ts.Check(serversOf(ts)[server].Save(&raw))
	var state struct {
		Repositories map[string]struct{ History []savedTag }
	}
	ts.Check(json.Unmarshal(raw.Bytes(), &state))
	return slices.DeleteFunc(state.Repositories[repo].History, func(t savedTag) bool { return t.Hidden })
}

// written SERVER N: so many manifests and tags were put or deleted since quay reset.
func cmdWritten(ts *testscript.TestScript, _ bool, args []string) {
	counts := serversOf(ts)[args[0]].Counts()
	got := 0
	for _, kind := range []string{"v2.manifest.put", "v2.manifest.delete", "api.tag.delete", "api.tag.change", "api.tag.restore", "api.delete"} {
		got += counts[kind]
	}
	if fmt.Sprint(got) != args[1] {
		ts.Fatalf("%d writes, want %s: %v", got, args[1], counts)
	}
}

// breaking gives the fault of a request, if it is of a kind that fails.
func (o outage) breaking(kind, path string) quaytest.Fault {
	if o.status != 0 && o.kind == kind && strings.HasSuffix(path, o.path) {
		return quaytest.Fault{Status: o.status}
	}
	return quaytest.Fault{}
}
