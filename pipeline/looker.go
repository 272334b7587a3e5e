package pipeline

import (
	"context"
	"io"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A looker sees what passes of a layer on its way to somewhere else: it learns
// the diffID, and shows the entries to filters that only look.
type looker struct {
	filters []oci.EntryFilter
	desc    oci.Descriptor
	size    int64 // of what passes, negative if nobody knows
	looks   bool  // the filters are to see it
	plain   bool  // nothing is to be learnt that the bytes' own digest doesn't tell

	last *tap
	tar  layer.Tar
}

// over gives open with the looker in between.
func (k *looker) over(open func(context.Context) (io.ReadCloser, error)) func(context.Context) (io.ReadCloser, error) {
	if k.plain && !k.looks {
		return open
	}
	return func(ctx context.Context) (io.ReadCloser, error) {
		src, err := open(ctx)
		if err != nil {
			return nil, err
		}
		r, w := io.Pipe()
		k.last = &tap{src: src, w: w, size: k.size, done: make(chan struct{})}
		go k.last.run(func() error { return k.look(ctx, r) }, r)
		return k.last, nil
	}
}

// look reads the layer to its end.
func (k *looker) look(ctx context.Context, r io.Reader) (err error) {
	var got layer.Rewritten
	if k.looks {
		got, err = layer.NewPass(k.desc, k.filters, layer.PassOptions{Codec: layer.None, Spare: layer.SpareBlob | layer.SpareTar}).Run(ctx, io.Discard, r)
	} else {
		got, err = layer.Recode(ctx, io.Discard, r, k.desc, layer.PassOptions{Codec: layer.None, Spare: layer.SpareBlob})
	}
	if err == nil {
		k.tar = got.Source
	}
	return err
}

// outcome gives the error of looking at what passed last, once that has ended.
// What broke off has none of its own.
func (k *looker) outcome() error {
	if k.last == nil {
		return nil
	}
	<-k.last.done
	if k.last.cut {
		return nil
	}
	return k.last.err
}

// made gives what observers are to be told of the layer; else is what is known
// if this looker didn't look.
func (k *looker) made(otherwise *Made) *Made {
	if !k.looks {
		return otherwise
	}
	return &Made{Unchanged: true, DiffID: k.tar.DiffID, TarSize: k.tar.Size, SourceTarSize: k.tar.Size, SourceDiffID: k.tar.DiffID}
}

// A tap is a reader that shows what it reads to a function on its own
// goroutine, which ends before Close returns.
type tap struct {
	src  io.ReadCloser
	w    *io.PipeWriter
	size int64 // that src has, negative if nobody knows
	n    int64
	over bool
	cut  bool          // src was not read to its end
	done chan struct{} // closed once err is set
	err  error
}

func (t *tap) run(look func() error, r *io.PipeReader) {
	defer close(t.done)
	if t.err = look(); t.err != nil {
		_ = r.CloseWithError(&abandonedError{t.err}) // which never fails
	}
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.src.Read(p)
	if n > 0 {
		t.n += int64(n)
		if _, err := t.w.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	if err != nil {
		if late := t.end(err); late != nil {
			return 0, late
		}
	}
	return n, err
}

// end says that src ended with err. It gives the error of who looks, unless src
// has failed.
func (t *tap) end(err error) error {
	if t.over {
		return nil
	}
	t.over = true
	select {
	case <-t.done: // it has failed
	default:
		t.cut = err != io.EOF
	}
	_ = t.w.CloseWithError(err) // io.EOF is a plain end
	<-t.done
	if err == io.EOF && t.err != nil {
		return &abandonedError{t.err}
	}
	return nil
}

func (t *tap) Close() error {
	err := io.ErrClosedPipe
	if t.n == t.size { // who knows the size need not read the end of file
		err = io.EOF
	}
	_ = t.end(err) // outcome says it
	return t.src.Close()
}
