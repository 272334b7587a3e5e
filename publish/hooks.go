package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/quaymaster/quaymaster/oci"
)

// Hooks are commands that are run once after all tags were moved, before the run
// is over: one that fails has the run's changes taken back. The digest references
// of what was pushed (host/repository@digest), lists and what they hold, are
// appended to their arguments; of very many the command is run several times.
//
// No shell is involved. A command has the environment and the folder of the
// program, nothing to read, and no terminal: it can't ask. Its output goes to the
// log. It ends with the run: when that is interrupted, its whole session is ended.
type Hooks struct {
	Sign   []string // the program and its arguments; nil for none
	Attest []string // likewise; run after Sign
}

const (
	// maxArgs is how many bytes of references one command gets. Linux takes 2 MiB
	// of arguments and environment, other systems as little as 256 KiB.
	maxArgs = 96 << 10
	// hookPatience is how long a command may take to end when it is told to.
	hookPatience = 2 * time.Second
	// hookTail is how many of its last lines are shown of a command that failed.
	hookTail = 20
	// hookLine is how many bytes of a line are shown.
	hookLine = 2 << 10
)

// check returns an error matching [oci.ErrUsage] if a command isn't there: better
// before all is pushed than after.
func (h Hooks) check() error {
	for _, argv := range [][]string{h.Sign, h.Attest} {
		if len(argv) == 0 {
			continue
		}
		if _, err := exec.LookPath(argv[0]); err != nil {
			return oci.Usage(fmt.Sprintf("a hook can't be run: %v", err))
		}
	}
	return nil
}

// runHooks runs h for refs, each once. In a dry run it runs nothing.
func (r *run) runHooks(ctx context.Context, h Hooks, refs []string) error {
	if len(refs) == 0 || r.p.DryRun {
		return nil
	}
	refs = once(refs)
	for _, hook := range []struct {
		name string
		argv []string
	}{{"sign", h.Sign}, {"attest", h.Attest}} {
		if len(hook.argv) == 0 {
			continue
		}
		for batch := range batches(refs, maxArgs) {
			if err := r.hook(ctx, hook.name, hook.argv, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// once gives each of all, in its order.
func once(all []string) []string {
	seen := make(map[string]bool, len(all))
	var kept []string
	for _, s := range all {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// batches cuts all into runs of at most size bytes, of one at least.
func batches(all []string, size int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		start, n := 0, 0
		for i, s := range all {
			if n += len(s) + 1; n > size && i > start {
				if !yield(all[start:i]) {
					return
				}
				start, n = i, len(s)+1
			}
		}
		if start < len(all) {
			yield(all[start:])
		}
	}
}

// hook runs one command.
func (r *run) hook(ctx context.Context, name string, argv, refs []string) error {
	cmd := exec.CommandContext(ctx, argv[0], append(append([]string{}, argv[1:]...), refs...)...) //nolint:gosec // the user's own command
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}                                          // what it starts can be ended with it
	var kill *time.Timer
	cmd.Cancel = func() error {
		session := -cmd.Process.Pid
		kill = time.AfterFunc(hookPatience, func() { _ = syscall.Kill(session, syscall.SIGKILL) })
		return syscall.Kill(session, syscall.SIGTERM)
	}
	cmd.WaitDelay = hookPatience + time.Second
	lines, w := newTail(r.p.Log, name), (*os.File)(nil)
	read, w, err := os.Pipe()
	if err != nil {
		return &oci.Error{Op: "run hook", Ref: name, Err: err}
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	_ = w.Close() // the command has its own
	if err == nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			lines.take(read)
		}()
		err = cmd.Wait()
		if kill != nil && !kill.Stop() || ctx.Err() != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // who is left of its session
		}
		// Whoever it left behind may hold its output open for ever.
		_ = read.SetReadDeadline(time.Now().Add(time.Second))
		<-done
	}
	_ = read.Close()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	for _, line := range lines.last {
		r.p.warn(name + " hook: " + line)
	}
	return &oci.Error{Op: "run hook", Ref: name, Err: fmt.Errorf("%s: %w", argv[0], err)}
}

// A tail logs lines and keeps the last of them.
type tail struct {
	log  *slog.Logger
	name string
	last []string
}

func newTail(log *slog.Logger, name string) *tail { return &tail{log: log, name: name} }

// take reads lines until r ends.
func (t *tail) take(r io.Reader) {
	b := bufio.NewReaderSize(r, hookLine)
	for {
		line, more, err := b.ReadLine()
		if err != nil {
			return
		}
		text := printable(string(line))
		for more && err == nil { // the rest of a long line is left out
			_, more, err = b.ReadLine()
		}
		if t.log != nil {
			t.log.Info(t.name+" hook", "line", text)
		}
		if t.last = append(t.last, text); len(t.last) > hookTail {
			t.last = t.last[1:]
		}
	}
}

// printable gives s without anything that a terminal would act on.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		switch {
		case c == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case c != '\t' && !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
		s = s[n:]
	}
	return b.String()
}
