package check

import (
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// A Severity says how bad a [Result] is.
type Severity string

// The severities. Only an Error makes an image invalid.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// The modes of a [Report].
const (
	ModeFast = "fast" // metadata only: no layer was read
	ModeFull = "full"
)

// A Report is what was found of one image. Its JSON is occystrap's.
type Report struct {
	Image    string   `json:"image"` // repository path without host
	Tag      string   `json:"tag"`   // "" where the name has none
	Mode     string   `json:"mode"`
	Errors   int      `json:"errors"`
	Warnings int      `json:"warnings"`
	Results  []Result `json:"results"` // never nil
	Ref      oci.Ref  `json:"-"`       // the name in full
}

// A Result is one thing that was found. Of an index, Message begins with the
// platform that it is about.
type Result struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"` // a [Check].ID of [Table]
	Message  string   `json:"message"`
}

// add appends results and counts them.
func (r *Report) add(prefix string, results ...Result) {
	for _, f := range results {
		f.Message = prefix + f.Message
		switch f.Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		}
		r.Results = append(r.Results, f)
	}
}

// found makes a result.
func found(s Severity, id, format string, args ...any) Result {
	return Result{Severity: s, Check: id, Message: fmt.Sprintf(format, args...)}
}

// either gives an error that says bad, or where ok holds, for the record, good.
func either(ok bool, id, good, bad string) Result {
	if ok {
		return Result{Severity: Info, Check: id, Message: good}
	}
	return Result{Severity: Error, Check: id, Message: bad}
}

// short cuts a digest to 25 characters, as occystrap does.
func short(d oci.Digest) string {
	if len(d) <= 25 {
		return string(d)
	}
	return string(d[:25]) + "..."
}
