package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// Exit statuses; docs/cli.md lists them for users.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitHalfUndone  = 4
	exitInterrupted = 130

	exitTrouble = 2 // of diff, whose 1 means that something differs
)

// grace is how long an interrupted run may take to write its summary and
// report before the process ends all the same.
const grace = 4500 * time.Millisecond

// tuneGC sets how much garbage may gather. In a large heap half of what is
// resident would be garbage, and collecting it sooner costs a copy next to
// nothing. In a small one the collector would run every 2 MB, which costs a
// listing of small things a sixth of its time; what it returns, which takes
// address space and no memory as long as nobody writes to it, makes that 6 MB.
func tuneGC() any {
	debug.SetGCPercent(50)
	return make([]byte, 8<<20)
}

// Main runs the command line and returns the exit status. SIGINT and SIGTERM
// end the run in order; a second one ends the process at once.
func Main(ctx context.Context, args []string, in io.Reader, out, talk io.Writer) int {
	if os.Getenv("GOGC") == "" {
		defer runtime.KeepAlive(tuneGC())
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	done := make(chan struct{})
	defer close(done)
	a := &app{in: in, out: out, talk: talk, getenv: os.Getenv}
	go func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
			stop() // the next signal has its default effect
		}
		for again := true; again; again = a.undo.wait() { // what it changed is put back first
			select {
			case <-done:
				return
			case <-time.After(grace):
			}
		}
		os.Exit(exitInterrupted)
	}()
	return a.main(ctx, args)
}

// main runs the command line and tells what ended it.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	status := exitStatus(ctx, err)
	if err == nil && a.settled {
		status = exitDone // a signal that came too late undid nothing
	}
	if !(status == exitInterrupted && errors.Is(err, context.Canceled)) {
		for _, line := range messages(err) {
			fmt.Fprintf(a.talk, "Error: %s\n", line)
		}
	}
	return status
}

func exitStatus(ctx context.Context, err error) int {
	switch {
	case errors.Is(err, publish.ErrUndoIncomplete):
		return exitHalfUndone
	case ctx.Err() != nil:
		return exitInterrupted
	case err == nil:
		return exitDone
	case errors.As(err, new(*troubleError)):
		return exitTrouble
	case errors.Is(err, oci.ErrUsage):
		return exitUsage
	case errors.Is(err, oci.ErrRefused):
		return exitRefused
	}
	return exitFailed
}

// errReported ends a run whose failures have been told already.
var errReported = errors.New("reported")

// messages are the lines that are printed of err: one, save where several things are
// wrong with what the user wrote, or are refused. Those are a line each.
func messages(err error) []string {
	msg := message(err)
	switch {
	case msg == "":
		return nil
	case !errors.Is(err, oci.ErrUsage) && !errors.Is(err, oci.ErrRefused):
		return []string{msg}
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = oneLine(line)
	}
	return lines
}

// message is err on one line, without control bytes; "" if it was told.
func message(err error) string {
	if err == nil || errors.Is(err, errReported) {
		return ""
	}
	return oneLine(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// oneLine makes text from elsewhere fit for a terminal: control bytes become
// visible escapes.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return '\uFFFD'
		}
		return r
	}, s)
}
