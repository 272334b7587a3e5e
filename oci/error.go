package oci

import (
	"errors"
	"strings"
)

// Kinds of failure. Errors of this module match one with [errors.Is]; the doc
// comment of a function says which.
var (
	// ErrNotFound means that there is no such image, manifest or blob.
	ErrNotFound = errors.New("not found")
	// ErrDenied means that the place refuses these credentials, or asks for some.
	ErrDenied = errors.New("access denied")
	// ErrDigestMismatch means that bytes are not what their descriptor says.
	ErrDigestMismatch = errors.New("digest mismatch")
	// ErrInvalid means content that breaks its specification.
	ErrInvalid = errors.New("invalid content")
	// ErrTooLarge means content over a fixed limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported means that a place can't do what was asked of it.
	ErrUnsupported = errors.New("unsupported")
	// ErrMoved means that a tag has another digest than the listing said.
	ErrMoved = errors.New("tag moved since it was listed")
	// ErrGone means that a tag was listed and is there no more.
	ErrGone = errors.New("tag gone since it was listed")
	// ErrIncomplete means a listing that ended early. What it gave is true, what
	// it lacks is unknown, so nothing may be deleted because of it.
	ErrIncomplete = errors.New("the listing is incomplete")
	// ErrAbandoned means content that its giver gave up on purpose while it was
	// read: another attempt would end the same way.
	ErrAbandoned = errors.New("abandoned")
	// ErrUsage means that the words of the command or its configuration are off.
	ErrUsage = errors.New("usage")
	// ErrRefused means that a safety rule forbids it; nothing was changed.
	ErrRefused = errors.New("refused")
)

// Error says which step on which content failed, and why.
type Error struct {
	Op   string // verb and noun: "fetch blob", "put manifest"
	Ref  string // repository, reference, file; without credentials
	Desc Descriptor
	Err  error
}

func (e *Error) Error() string { return e.text("") }

// text leaves out the reference where the error around it has said it.
func (e *Error) text(said string) string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Ref != "" && e.Ref != said {
		b.WriteString(" ")
		b.WriteString(e.Ref)
	}
	if e.Desc.Digest != "" && !strings.Contains(e.Ref, string(e.Desc.Digest)) {
		b.WriteString(" ")
		b.WriteString(string(e.Desc.Digest))
	}
	b.WriteString(": ")
	if inner, ok := e.Err.(*Error); ok { //nolint:errorlint // only the error right below shares its words
		b.WriteString(inner.text(e.Ref))
	} else {
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Wrap adds op and ref to err. A nil err stays nil, and an err that already is
// an [*Error] is left alone, so that each message says each thing once.
func Wrap(err error, op, ref string, d Descriptor) error {
	if _, ok := errors.AsType[*Error](err); err == nil || ok {
		return err
	}
	return &Error{Op: op, Ref: ref, Desc: d, Err: err}
}

// Usage returns an error that matches [ErrUsage] and says only msg.
func Usage(msg string) error { return &kindError{ErrUsage, msg} }

// Refuse returns an error that matches [ErrRefused] and says only msg.
func Refuse(msg string) error { return &kindError{ErrRefused, msg} }

type kindError struct {
	kind error
	msg  string
}

func (e *kindError) Error() string { return e.msg }
func (e *kindError) Unwrap() error { return e.kind }
