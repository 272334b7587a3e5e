package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// An eventLog writes what happens as JSON lines, for programs that watch a run.
// The names of events are those that pubtools-quay's hooks have.
type eventLog struct {
	mu  sync.Mutex
	to  io.Writer
	end func() error
	err error
}

// openEvents opens --events: a file, which is appended to, or stdout. nil is none.
func (a *app) openEvents(path string) (*eventLog, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		if a.work.output != "text" {
			return nil, oci.Usage("--events - and --output-format " + a.work.output + " both write to stdout; name a file")
		}
		return &eventLog{to: a.out, end: func() error { return nil }}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, oci.Usage(fmt.Sprintf("--events: %v", err))
	}
	return &eventLog{to: f, end: f.Close}, nil
}

// write writes one event; facts are its further keys.
func (l *eventLog) write(event string, facts map[string]any) {
	if l == nil {
		return
	}
	line := map[string]any{"event": event, "time": time.Now().UTC().Format(time.RFC3339Nano)}
	maps.Copy(line, facts)
	raw, err := json.Marshal(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.to.Write(append(raw, '\n')) // one write, so that lines of several runs in one file stay whole
	}
	if l.err == nil {
		l.err = err
	}
}

// close gives the first error there was.
func (l *eventLog) close() error {
	if l == nil {
		return nil
	}
	if err := l.end(); l.err == nil {
		l.err = err
	}
	return oci.Wrap(l.err, "write", "--events", oci.Descriptor{})
}
