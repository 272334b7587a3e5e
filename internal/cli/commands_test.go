package cli_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

func serversOf(ts *testscript.TestScript) servers { return ts.Value("servers").(servers) }

// status N PROGRAM ARGUMENTS...: the program ends with status N.
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("status %d, want %s: %v", got, args[0], err)
	}
}

// quay changes the organisations of $QUAY:
//
//	quay push REPO TAG TEXT    lets TAG mean an image that holds TEXT; $TEXT is its digest from then on
//	quay tag REPO TAG TEXT     lets TAG mean that image, which is in REPO already
//	quay sign REPO TEXT        adds the tag of a cosign signature of that image
//	quay delete REPO TAG
//	quay fill ORG N            makes N repositories of five tags each
//	quay on KIND push|delete…  does that when the first request of KIND (quaytest.Kind) for REPO comes
//	quay reset                 forgets requests
func cmdQuay(ts *testscript.TestScript, _ bool, args []string) {
	quay := serversOf(ts)["QUAY"]
	ctx := context.Background()
	var err error
	switch args[0] {
	case "push":
		ts.Setenv(args[3], string(textImage(args[3]).Desc.Digest))
		err = quay.Push(ctx, args[1], args[2], textImage(args[3]))
	case "tag":
		err = quay.MoveTag(args[1], args[2], textImage(args[3]).Desc.Digest)
	case "sign":
		tag := "sha256-" + textImage(args[2]).Desc.Digest.Encoded() + ".sig"
		err = quay.Push(ctx, args[1], tag, textImage("signature of "+args[2]))
	case "delete":
		err = quay.DeleteTag(args[1], args[2])
	case "fill":
		err = quay.BulkRepositories(ctx, args[1], atoi(ts, args[2]), bulkRepository)
	case "on":
		if args[2] == "push" {
			ts.Setenv(args[5], string(textImage(args[5]).Desc.Digest))
		}
		quay.set(trap{kind: args[1], path: "/v2/" + args[3] + "/", do: func() { act(quay, args[2:]) }})
	case "reset":
		for _, f := range serversOf(ts) {
			f.reset()
		}
	default:
		err = fmt.Errorf("quay %s?", args[0])
	}
	ts.Check(err)
}

// act is push or delete from a server's own goroutine.
func act(quay *far, args []string) {
	var err error
	if args[0] == "push" {
		err = quay.Push(context.Background(), args[1], args[2], textImage(args[3]))
	} else {
		err = quay.DeleteTag(args[1], args[2])
	}
	if err != nil {
		panic(err)
	}
}

// bulkRepository is the i-th of many: repositories that sort otherwise than
// they were made, with images that are shared.
func bulkRepository(i int) quaytest.BulkRepository {
	r := quaytest.BulkRepository{Name: fmt.Sprintf("r%d", (i*7919)%1000)}
	for n := range 5 {
		img := imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"n": fmt.Sprint(n)}))
		r.Tags = append(r.Tags, quaytest.BulkTag{Name: fmt.Sprintf("v%d", (n*3)%5), Image: img, Start: when.Add(time.Duration(i*n) * time.Minute)})
	}
	return r
}

func atoi(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// counts SERVER KIND N: so many requests of that kind came since quay reset.
func cmdCounts(ts *testscript.TestScript, neg bool, args []string) {
	if got := serversOf(ts)[args[0]].Counts()[args[1]]; (got != atoi(ts, args[2])) != neg {
		ts.Fatalf("%s: got %d requests %s, want %s", args[0], got, args[1], args[2])
	}
}

// shown WORD SERVER:AREA...: since quay reset the servers were shown WORD just
// there, in whatever header or address.
func cmdShown(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for name, f := range serversOf(ts) {
		for _, area := range f.shown(args[0]) {
			got = append(got, name+":"+area)
		}
	}
	slices.Sort(got)
	if want := args[1:]; !slices.Equal(got, want) {
		ts.Fatalf("%q was shown to %q, want %q", args[0], got, want)
	}
}

// hidden WORD...: no output of the last program and no file holds WORD.
func cmdHidden(ts *testscript.TestScript, _ bool, args []string) {
	texts := map[string]string{"stdout": ts.ReadFile("stdout"), "stderr": ts.ReadFile("stderr")}
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			texts[name] = name + "\n" + ts.ReadFile(name)
		}
		return err
	}))
	for _, word := range args {
		if word == "" {
			ts.Fatalf("an empty word is everywhere")
		}
		for name, text := range texts {
			if contains(text, word) {
				ts.Fatalf("%s shows %q", name, word)
			}
		}
	}
}

// authfile FILE [KEY USER PASSWORD]...: writes a file of logins.
func cmdAuthfile(ts *testscript.TestScript, _ bool, args []string) {
	type login struct {
		Auth string `json:"auth"`
	}
	auths := map[string]login{}
	for entry := range slices.Chunk(args[1:], 3) {
		auths[entry[0]] = login{base64.StdEncoding.EncodeToString([]byte(entry[1] + ":" + entry[2]))}
	}
	raw, err := json.Marshal(map[string]any{"auths": auths})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o600))
}

// keys KEY...: the first object in the last program's JSON has just these keys, in this order.
func cmdKeys(ts *testscript.TestScript, _ bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	t, err := dec.Token()
	if t == json.Delim('[') {
		t, err = dec.Token()
	}
	ts.Check(err)
	if t != json.Delim('{') {
		ts.Fatalf("%v is no object", t)
	}
	var got []string
	for dec.More() {
		key, err := dec.Token()
		ts.Check(err)
		got = append(got, key.(string))
		var value json.RawMessage
		ts.Check(dec.Decode(&value))
	}
	if !slices.Equal(got, args) {
		ts.Fatalf("keys %q, want %q", got, args)
	}
}
