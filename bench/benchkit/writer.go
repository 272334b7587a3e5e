package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// A writer writes the files of [results], a line as soon as it is known, and
// shows runs and requests.
type writer struct {
	file  map[string]*os.File // by what is appended to the path
	shown io.Writer
}

func openWriter(path string, shown io.Writer) (*writer, error) {
	w := &writer{file: map[string]*os.File{}, shown: shown}
	for _, suffix := range []string{"", ".requests", ".facts"} {
		f, err := os.OpenFile(path+suffix, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.file[suffix] = f
	}
	info, err := w.file[""].Stat()
	if err == nil && info.Size() == 0 {
		_, err = fmt.Fprintln(w.file[""], runHeader)
	}
	return w, err
}

func (w *writer) run(r run) error {
	_, err := fmt.Fprintln(io.MultiWriter(w.file[""], w.shown), r)
	return err
}

func (w *writer) requests(q requests) error {
	_, err := fmt.Fprintf(io.MultiWriter(w.file[".requests"], w.shown), "%s\t%s\t%s\t%s\n", q.scenario, q.tool, q.end, q.counts)
	return err
}

func (w *writer) fact(key, value string) error {
	_, err := fmt.Fprintf(w.file[".facts"], "%s\t%s\n", key, value)
	return err
}

// Close closes the files.
func (w *writer) Close() error {
	var errs []error
	for _, f := range w.file {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
