package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A file is what lines are kept in.
type file interface {
	io.WriterAt
	io.ReaderAt
	io.Closer
	Sync() error
}

// Create begins a journal in a new file that only its owner can read. It returns
// an error matching [oci.ErrUsage] if there is such a file: a run never writes
// over what undoes another.
func Create(path string, h Header) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, oci.Usage(fmt.Sprintf("the journal %s is there already; a run needs a new one", path))
	}
	if err != nil {
		return nil, fmt.Errorf("create the journal: %w", err)
	}
	j, err := start(f, path, h)
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return j, nil
}

// syncFolder makes the names in dir outlast a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// New begins a journal in memory.
func New(h Header) (*Journal, error) { return start(new(memory), "", h) }

func start(f file, path string, h Header) (*Journal, error) {
	h.Started = h.Started.UTC().Round(0)
	j := &Journal{header: h, file: f, path: path, tags: map[string]*entry{}, content: map[oci.Digest]span{}}
	return j, j.append(headerLine(h))
}

// append writes l behind the lines that are there and takes it in. It is called
// with mu held, or before anyone else knows j.
func (j *Journal) append(l line) error {
	if j.broken != nil {
		return j.broken
	}
	raw, err := l.bytes()
	if err != nil {
		return err
	}
	// What is written has to be read again: a line that the reader would refuse
	// would make the whole journal worthless.
	if _, err := parseLine(raw[:len(raw)-1]); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.admits(l); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if _, err := j.file.WriteAt(raw, j.size); err != nil {
		j.broken = fmt.Errorf("write the journal: %w", err)
		return j.broken
	}
	j.take(l, span{j.size, int64(len(raw) - 1)})
	j.size += int64(len(raw))
	return nil
}

func (j *Journal) add(l line) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(l)
}

// Snapshot keeps what ref (host/repository:tag) meant, with its bytes unless it
// was absent. A tag may be looked at several times: what counts is the last look
// before the first intent.
func (j *Journal) Snapshot(ref string, s State, raw []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, there := j.content[s.Digest]; !s.Absent && !there {
		if err := j.append(contentLine(s.Digest, raw)); err != nil {
			return err
		}
	}
	return j.append(snapshotLine(ref, s))
}

// Intent announces a write of ref, and returns when that is on the disk; d is ""
// for [Delete]. expires is when the tag as it is would expire, zero where that is
// not known or was told by the snapshot. n is for [Journal.Done].
func (j *Journal) Intent(ref string, a Action, d oci.Digest, expires time.Time) (n int, err error) {
	j.mu.Lock()
	n = len(j.intents) + 1
	err = j.append(intentLine(n, ref, a, d, expires))
	upTo := j.size
	j.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return n, j.sync(upTo)
}

// sync waits until the first bytes of the file are on the disk. Who comes while
// another waits is served by the same one.
func (j *Journal) sync(bytes int64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= bytes {
		return nil
	}
	j.mu.Lock()
	size, err := j.size, j.broken
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		// What was not written back may be lost, and another try would not say so.
		j.mu.Lock()
		defer j.mu.Unlock()
		j.broken = fmt.Errorf("sync the journal: %w", err)
		return j.broken
	}
	j.synced = size
	return nil
}

// Done says that the write of intent n has been done. It needn't be on the disk:
// a rollback looks at what there is.
func (j *Journal) Done(n int) error { return j.add(doneLine(n)) }

// Undone says what a rollback did with ref.
func (j *Journal) Undone(ref string, o Outcome) error { return j.add(undoneLine(ref, o)) }

// End says how the run, or a rollback, ended, and returns when everything is on
// the disk.
func (j *Journal) End(status string) error {
	if err := j.add(endLine(status)); err != nil {
		return err
	}
	j.mu.Lock()
	size := j.size
	j.mu.Unlock()
	return j.sync(size)
}
