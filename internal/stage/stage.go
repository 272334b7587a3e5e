package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/oci"
)

// Folder is where the run folders and the lock are, beneath the folder that is
// written. It is gone when the last run has ended.
const Folder = ".quaymaster"

const (
	lockName  = Folder + "/lock"
	runPrefix = "run-"
)

// A Stage is a folder that is written to. It is safe for concurrent use.
type Stage struct {
	path    string
	prepare Prepare

	mu   sync.Mutex
	root *os.Root // nil as long as the folder doesn't exist
	run  string   // "" before the first write
	live *lockfile.Lock

	closed bool
}

// Prepare makes a folder what it is to be, before the first write and under the
// lock. write replaces a file durably.
type Prepare func(root *os.Root, write func(name string, data []byte) error) error

// Open opens the folder path, which need not exist yet. prepare may be nil. A
// path that is no folder is an error matching [oci.ErrUsage].
func Open(path string, prepare Prepare) (*Stage, error) {
	s := &Stage{path: path, prepare: prepare}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, oci.Usage(path + " is a file; name a folder")
	}
	s.root, err = os.OpenRoot(path)
	return s, err
}

// Path gives the folder as it was named.
func (s *Stage) Path() string { return s.path }

// Root gives the folder to read from. The error matches [fs.ErrNotExist] if it
// doesn't exist.
func (s *Stage) Root() (*os.Root, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil, &fs.PathError{Op: "open", Path: s.path, Err: fs.ErrNotExist}
	}
	return s.root, nil
}

// Begin makes the folder ready to be written, once. The methods that write
// call it.
func (s *Stage) Begin(ctx context.Context) (*os.Root, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &fs.PathError{Op: "write", Path: s.path, Err: fs.ErrClosed}
	}
	if s.run != "" {
		return s.root, nil
	}
	if s.root == nil {
		if err := s.makeFolder(); err != nil {
			return nil, err
		}
	}
	l, err := lock(ctx, s.root)
	if err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, leave(s.root, l))
	}
	return s.root, l.Release()
}

// makeFolder makes the folder, and its parents where they are missing, durably.
func (s *Stage) makeFolder() error {
	var parents []string // of what is made
	for dir := filepath.Clean(s.path); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		parents = append(parents, filepath.Dir(dir))
	}
	if err := os.MkdirAll(s.path, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return err
	}
	s.root = root
	for _, name := range parents {
		parent, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
			return err
		}
	}
	return nil
}

// begin runs under the lock: nobody sweeps a run folder before its own lock is
// held.
func (s *Stage) begin() error {
	if err := sweep(s.root); err != nil {
		return err
	}
	run := Folder + "/" + runPrefix + strings.ToLower(rand.Text()[:12])
	if err := s.root.Mkdir(run, 0o755); err != nil {
		return err
	}
	live, err := lockfile.Try(s.root, run+"/lock")
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(run))
	}
	if s.prepare != nil {
		err = s.prepare(s.root, func(name string, data []byte) error { return writeFile(s.root, run, name, data) })
	}
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(run), live.Release())
	}
	s.run, s.live = run, live
	return nil
}

// Lock takes the folder's lock against other writers. It makes the folder
// ready to be written first.
func (s *Stage) Lock(ctx context.Context) (unlock func() error, err error) {
	root, err := s.Begin(ctx)
	if err != nil {
		return nil, err
	}
	l, err := lock(ctx, root)
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

func lock(ctx context.Context, root *os.Root) (*lockfile.Lock, error) {
	for {
		if err := root.Mkdir(Folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// A link is not ours: what is swept behind it could be anything.
		if fi, err := root.Lstat(Folder); err == nil && !fi.IsDir() {
			return nil, fmt.Errorf("%s: %w: it is no folder", Folder, oci.ErrInvalid)
		}
		l, err := lockfile.Acquire(ctx, root, lockName)
		if !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
		// The last run ended just now and took its hidden folder away.
	}
}

// Sweep removes the run folders of dead processes, if there are any and the
// folder is there. Where nothing may be written they stay, and that is no error.
func (s *Stage) Sweep(ctx context.Context) error {
	root, err := s.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := root.Lstat(Folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := lock(ctx, root)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := sweep(root); err != nil {
		return errors.Join(err, l.Release())
	}
	return leave(root, l)
}

// sweep runs under the lock.
func sweep(root *os.Root) error {
	runs, err := runFolders(root)
	if err != nil {
		return err
	}
	for _, run := range runs {
		live, err := lockfile.Try(root, run+"/lock")
		switch {
		case err == nil && live == nil:
			continue // its process lives
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		err = root.RemoveAll(run)
		if live != nil {
			err = errors.Join(err, live.Release())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func runFolders(root *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), Folder)
	if err != nil {
		return nil, err
	}
	var runs []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), runPrefix) {
			runs = append(runs, Folder+"/"+e.Name())
		}
	}
	return runs, nil
}

// leave ends the use of the hidden folder under lock l, which it lets go, and
// removes the folder unless other runs are in it.
func leave(root *os.Root, l *lockfile.Lock) error {
	runs, err := runFolders(root)
	if err != nil || len(runs) > 0 {
		return errors.Join(err, l.Release())
	}
	if err := l.Remove(); err != nil {
		return err
	}
	// Another run may have come in between: then the folder isn't empty and stays.
	_ = root.Remove(Folder)
	return nil
}

// longestWait is how long Close waits for the lock. Who holds it longer is
// stopped, or dies; the next run cleans up.
const longestWait = 2 * time.Second

// Close removes what has no final name yet.
func (s *Stage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.root == nil {
		return nil
	}
	var err error
	if s.run != "" {
		err = s.end()
		s.run = ""
	}
	err = errors.Join(err, s.root.Close())
	s.root = nil
	return err
}

// end removes the run folder, under the lock: a sweep that meets one half gone
// would take it for a dead run's and make it anew.
func (s *Stage) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), longestWait)
	defer cancel()
	l, lockErr := lock(ctx, s.root)
	err := errors.Join(s.root.RemoveAll(s.run), s.live.Release())
	switch {
	case lockErr == nil:
		return errors.Join(err, leave(s.root, l))
	case errors.Is(lockErr, context.DeadlineExceeded), errors.Is(lockErr, fs.ErrNotExist): // the folder is gone
		return err
	}
	return errors.Join(err, lockErr)
}
