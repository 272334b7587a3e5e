package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/quaymaster/quaymaster/oci"
)

// Open reads the journal at path, to be gone on with: what a rollback does is
// noted there too. A torn last line is cut off. Errors match [oci.ErrInvalid] if
// any other line isn't what a run wrote, and [oci.ErrTooLarge] past a million tags.
func Open(path string) (*Journal, error) { return open(path, os.O_RDWR) }

// Look is [Open] for who only looks: the file stays as it is, and takes no lines.
func Look(path string) (*Journal, error) { return open(path, os.O_RDONLY) }

func open(path string, flag int) (*Journal, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j, err := read(f)
	if err == nil && flag == os.O_RDWR {
		err = f.Truncate(j.size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the journal %s: %w", path, err), f.Close())
	}
	j.path = path
	return j, nil
}

// read takes in all lines of f.
func read(f file) (*Journal, error) {
	j := &Journal{file: f, tags: map[string]*entry{}, content: map[oci.Digest]span{}}
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 64<<10)
	var buf []byte
	for n := 1; ; n++ {
		raw, err := readLine(in, &buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		l, err := parseLine(raw)
		if err == nil && (l.Kind == kindHeader) != (n == 1) {
			err = fmt.Errorf("%w: a journal begins with its header, and has one", oci.ErrInvalid)
		}
		if err == nil {
			err = j.admits(l)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		j.take(l, span{j.size, int64(len(raw))})
		j.size += int64(len(raw)) + 1
	}
	if j.size == 0 {
		return nil, fmt.Errorf("%w: it has no header", oci.ErrInvalid)
	}
	return j, nil
}

// readLine gives the next line without its end, in buf where it is long. A last
// line without an end is none.
func readLine(in *bufio.Reader, buf *[]byte) ([]byte, error) {
	*buf = (*buf)[:0]
	for {
		part, err := in.ReadSlice('\n')
		if len(*buf)+len(part) > maxLine {
			return nil, fmt.Errorf("%w: a line of over %d bytes", oci.ErrTooLarge, maxLine)
		}
		switch {
		case err == nil && len(*buf) == 0:
			return part[:len(part)-1], nil
		case err != nil && err != bufio.ErrBufferFull:
			return nil, err
		}
		*buf = append(*buf, part...)
		if err == nil {
			return (*buf)[:len(*buf)-1], nil
		}
	}
}

// admits reports what is wrong with l behind the lines that are there.
func (j *Journal) admits(l line) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", oci.ErrInvalid, fmt.Sprintf(format, args...))
	}
	e := j.tags[l.Ref]
	switch l.Kind {
	case kindContent:
		if _, there := j.content[l.Digest]; there {
			return fail("%s stands there twice", l.Digest)
		}
	case kindSnapshot:
		if _, there := j.content[l.Digest]; !l.Absent && !there {
			return fail("the bytes of %s are missing", l.Digest)
		}
		if e == nil && len(j.tags) == maxTags {
			return fmt.Errorf("%w: over %d tags", oci.ErrTooLarge, maxTags)
		}
	case kindIntent:
		if e == nil {
			return fail("%s is written, and what it was isn't said", l.Ref)
		}
		if l.N != len(j.intents)+1 {
			return fail("intent %d after %d others", l.N, len(j.intents))
		}
		if len(j.intents) == 4*maxTags {
			return fmt.Errorf("%w: over %d writes", oci.ErrTooLarge, 4*maxTags)
		}
	case kindDone:
		if l.N > len(j.intents) || j.intents[l.N-1].done {
			return fail("write %d is done, and nobody meant to", l.N)
		}
	case kindUndone:
		if e == nil || len(e.writes) == 0 {
			return fail("%s is undone, and was never written", l.Ref)
		}
	}
	return nil
}

// take notes what l, which stands at, says.
func (j *Journal) take(l line, at span) {
	switch l.Kind {
	case kindHeader:
		j.header = Header{l.Tool, l.Command, l.Run, *l.Started}
	case kindContent:
		j.content[l.Digest] = at
	case kindSnapshot:
		e := j.tags[l.Ref]
		if e == nil {
			e = &entry{ref: l.Ref}
			j.tags[l.Ref] = e
		}
		if len(e.writes) == 0 { // later looks see what the run itself wrote
			e.before = State{l.Absent, l.Digest, l.MediaType, l.Partial, l.expires()}
		}
	case kindIntent:
		e := j.tags[l.Ref]
		if len(e.writes) == 0 && !l.expires().IsZero() {
			e.before.Expires = l.expires()
		}
		i := &intent{entry: e, digest: l.Digest, n: l.N}
		e.writes = append(e.writes, i)
		j.intents = append(j.intents, i)
	case kindDone:
		j.intents[l.N-1].done = true
	case kindUndone:
		j.tags[l.Ref].outcome = l.Outcome
	case kindEnd:
		j.status = l.Status
	}
}
