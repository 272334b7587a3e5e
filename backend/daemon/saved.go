package daemon

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// tailSize is how much of a stream's end is remembered: it may hold why the
// daemon ended it.
const tailSize = 4096

// A savedStream is the body of an answer to save.
type savedStream struct {
	rc   io.ReadCloser
	tail []byte
}

func (s *savedStream) Read(p []byte) (int, error) {
	n, err := s.rc.Read(p)
	if n >= tailSize {
		s.tail = append(s.tail[:0], p[n-tailSize:n]...)
	} else {
		s.tail = append(s.tail, p[:n]...)
		if over := len(s.tail) - tailSize; over > 0 {
			s.tail = append(s.tail[:0], s.tail[over:]...)
		}
	}
	return n, err
}

func (s *savedStream) Close() error { return s.rc.Close() }

// said adds to err, because of which the stream ended, what the daemon has
// written at its end: an error that it came upon with half of the image sent.
func (s *savedStream) said(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, tar.ErrHeader) { // it may go on
		_, _ = io.CopyN(io.Discard, s, tailSize)
	}
	i := bytes.LastIndex(s.tail, []byte(`{"errorDetail"`))
	if i < 0 {
		i = bytes.LastIndex(s.tail, []byte(`{"message"`))
	}
	if i < 0 {
		return err
	}
	var m struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(bytes.TrimRight(s.tail[i:], "\x00\r\n "), &m) != nil {
		return err
	}
	text := m.Error
	if text == "" {
		text = m.Message
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return err
	}
	return fmt.Errorf("the daemon says %q: %w", text[:min(len(text), 1000)], err)
}

// cut makes an end in the middle an error of its own.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the stream ended early: %w", io.ErrUnexpectedEOF)
	}
	return err
}
