package search

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"regexp/syntax"
	"sync"
)

// A content looks for a regular expression in streams.
type content struct {
	re *regexp.Regexp
	// prefix begins each match, and a match says nothing about what comes before
	// it; whole: it is all of each match. nil is not known.
	prefix []byte
	whole  bool
}

// newContent gives nil for nil.
func newContent(re *regexp.Regexp) *content {
	if re == nil {
		return nil
	}
	c := &content{re: re}
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return c
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil || prog.StartCond() != 0 {
		return c // LiteralPrefix of ^a is a
	}
	if prefix, whole := re.LiteralPrefix(); prefix != "" && len(prefix) <= bufferSize/2 {
		c.prefix, c.whole = []byte(prefix), whole
	}
	return c
}

// holds reports whether body has what the query wants of contents.
func (s *Searcher) holds(body io.Reader) (bool, error) {
	found := true
	if s.query.SHA256 == "" {
		return s.content.in(body)
	}
	h := sha256.New()
	r := io.TeeReader(body, h)
	if s.content != nil {
		var err error
		if found, err = s.content.in(r); err != nil {
			return false, err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return false, err
	}
	return found && hex.EncodeToString(h.Sum(nil)) == s.query.SHA256, nil
}

const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// in reports whether there is a match somewhere in r, of which it may read only
// a part. Matches may be of any length: the automaton runs over the stream.
func (c *content) in(r io.Reader) (bool, error) {
	br := buffers.Get().(*bufio.Reader)
	defer func() {
		br.Reset(nil)
		buffers.Put(br)
	}()
	e := &errorReader{r: r}
	br.Reset(e)
	if c.prefix != nil {
		// All before the first prefix may be skipped, and looking for bytes is fast.
		if found, err := skipTo(br, c.prefix); !found || c.whole || err != nil {
			return found && err == nil, err
		}
	}
	found := c.re.MatchReader(br)
	return found && e.err == nil, e.err
}

// skipTo discards what stands before the first text in br.
func skipTo(br *bufio.Reader, text []byte) (bool, error) {
	for {
		if _, err := br.Peek(len(text)); err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		ahead, err := br.Peek(br.Buffered())
		if err != nil {
			return false, err
		}
		if i := bytes.Index(ahead, text); i >= 0 {
			_, err := br.Discard(i)
			return true, err
		}
		if _, err := br.Discard(len(ahead) - len(text) + 1); err != nil {
			return false, err
		}
	}
}

// An errorReader keeps the error that the automaton takes for an end.
type errorReader struct {
	r   io.Reader
	err error // not io.EOF
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}
