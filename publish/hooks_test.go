package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// script writes a shell script and gives its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// lines reads the lines of a file that scripts wrote.
func lines(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

func TestHooks(t *testing.T) {
	s := newStage(t, plainArena)
	list, single := s.cast.list("amd64=1", "arm64=2"), s.cast.image("s390x=3")
	s.from.push("src/list:1", list)
	s.from.push("src/single:1", single)
	s.to.push("org/same:1", single)
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("HOOK_OUT", out) // the environment is passed
	s.opt.Hooks = publish.Hooks{
		Sign:   []string{script(t, `echo "sign $1" >>$HOOK_OUT; shift; for r; do echo "$r" >>$HOOK_OUT; done; read x && echo "had input" >>$HOOK_OUT; true`), "--key=a b;$(c)"},
		Attest: []string{script(t, `echo attest $# >>$HOOK_OUT`)},
	}
	s.mustPush("src/list:1 > a:1,2 b:1", "src/single:1 > b:2 same:1")
	ref := func(repo string, d oci.Digest) string { return fmt.Sprintf("%s/org/%s@%s", s.to.host, repo, d) }
	one, two := s.cast.image("amd64=1").Desc.Digest, s.cast.image("arm64=2").Desc.Digest
	want := []string{
		"sign --key=a b;$(c)",                                    // as it is: there is no shell
		ref("a", list.Desc.Digest), ref("a", one), ref("a", two), // each once
		ref("b", list.Desc.Digest), ref("b", one), ref("b", two),
		ref("b", single.Desc.Digest), // what was there already isn't signed again
		"attest 7",
	}
	if got := lines(t, out); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHookFails(t *testing.T) {
	for _, scope := range []publish.Scope{publish.All, publish.OneItem} {
		t.Run(string(scope), func(t *testing.T) {
			s := newStage(t, plainArena)
			items := five(s)
			var warnings, logged strings.Builder
			s.pub.Warn = func(line string) { warnings.WriteString(line + "\n") }
			s.pub.Log = slog.New(slog.NewTextHandler(&logged, nil))
			s.pub.Scope = scope
			s.opt.Hooks.Sign = []string{script(t, `printf 'no \033[31mkey\r\n\377\n' >&2; exit 3`)}
			_, err := s.push(items...)
			if err == nil || !strings.Contains(err.Error(), "exit status 3") || errors.Is(err, oci.ErrRefused) {
				t.Errorf("got %v", err)
			}
			asBefore(s)
			if got, want := warnings.String(), "sign hook: no \\u001b[31mkey\nsign hook: \\xff\n"; got != want {
				t.Errorf("warned\n%q\nwant\n%q", got, want)
			}
			if !strings.Contains(logged.String(), "key") || strings.Contains(logged.String(), "\x1b") {
				t.Errorf("logged %q", logged.String())
			}
		})
	}
}

// What will be taken back isn't signed before.
func TestHookOfWhatStays(t *testing.T) {
	s := newStage(t, plainArena)
	items := five(s)
	hook, _ := failing("PUT", "/org/repo3/manifests/new", 403, 1000) // after the item's other tag
	s.to.on(hook)
	out := filepath.Join(t.TempDir(), "out")
	s.pub.Scope = publish.OneItem
	s.opt.Hooks.Sign = []string{script(t, `for r; do echo "$r" >>`+out+`; done`)}
	r, err := s.push(items...)
	if err == nil || r.Totals[publish.Pushed] != 8 || r.Totals[publish.RolledBack] != 1 {
		t.Errorf("got %v and %v", err, r.Totals)
	}
	if got := lines(t, out); len(got) != 4 || strings.Contains(strings.Join(got, "\n"), "repo3") {
		t.Errorf("signed %q, want the four that stay", got)
	}
}

// Who interrupts a run doesn't wait for a hook, nor for what the hook has started.
func TestHookIsInterrupted(t *testing.T) {
	s := newStage(t, plainArena)
	items := five(s)
	started := filepath.Join(t.TempDir(), "started")
	s.opt.Hooks.Sign = []string{script(t, `sleep 1000 & echo $$ >`+started+`.new; mv `+started+`.new `+started+`; wait`)}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("SIGINT")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(started); err == nil {
				cancel(why)
			}
			time.Sleep(time.Millisecond) // polls a file that another process writes
		}
	}()
	r, err := s.pub.Push(ctx, s.plan(itemLines(items...)), s.opt)
	if !errors.Is(err, why) || !r.Interrupted {
		t.Errorf("got %v, want the interruption", err)
	}
	asBefore(s)
}

// References beyond what a command line holds come in several runs.
func TestHookBatches(t *testing.T) {
	s := newStage(t, plainArena)
	s.from.push("src/a:1", s.cast.image("amd64=1"))
	out := filepath.Join(t.TempDir(), "out")
	s.opt.Hooks.Sign = []string{script(t, `echo $# >>`+out)}
	name := strings.Repeat("n", 200)
	var b strings.Builder
	b.WriteString("- pull_url: src/a:1\n  tags:\n")
	const repos = 400
	for n := range repos {
		fmt.Fprintf(&b, "    %s%d: [x]\n", name, n)
	}
	if _, err := s.pub.Push(t.Context(), s.plan(b.String()), s.opt); err != nil {
		t.Fatal(err)
	}
	sum, runs := 0, lines(t, out)
	for _, line := range runs {
		n := 0
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != repos || len(runs) < 2 {
		t.Errorf("%d references in %d runs, want %d", sum, len(runs), repos)
	}
}
