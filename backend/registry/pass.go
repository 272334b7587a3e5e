package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// A pass is one pass over a blob's content on its way into a request. It opens
// the content when the transport first reads it, or takes what was opened while
// the registry was asked ([opening]), so a request that is refused before costs
// the source no second reading.
//
// With "Expect: 100-continue" Go's transport reads the body also after a final
// answer that came in place of the 100, to keep its connection. The pass then
// waits for the end of the request instead: see [pass.watch].
type pass struct {
	blob   oci.Blob
	parent context.Context // the upload's
	ctx    context.Context // of the content; it ends with the pass
	cancel context.CancelFunc

	// What the transport saw of the answer. Channels, because it tells and reads
	// on goroutines of its own.
	answered, wanted signal
	over             signal

	ahead *opening // content that is opened already, or about to be; nil for none

	mu   sync.Mutex // held while content is read
	rc   io.ReadCloser
	hash hash.Hash // nil unless the digest is to be learnt
	n    int64
	done bool  // all content was read
	err  error // the content's own failure
}

// errUnwanted ends a pass whose request was answered without its content.
var errUnwanted = errors.New("the content was not wanted")

// newPass makes a pass over b. ctx is the caller's, not the request's: that one
// holds the destination's scopes. hash is how to learn the digest, "" is not.
func newPass(ctx context.Context, b oci.Blob, hash digest.Algorithm) *pass {
	p := &pass{blob: b, parent: ctx, answered: newSignal(), wanted: newSignal(), over: newSignal()}
	p.ctx, p.cancel = context.WithCancel(ctx)
	if hash != "" {
		p.hash = hash.Hash()
	}
	return p
}

// watch lets p see when an answer comes and whether it is the 100 that asks for
// the content.
func (p *pass) watch(req *http.Request) *http.Request {
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: p.answered.give,
		Got100Continue:       p.wanted.give,
	}))
}

func (p *pass) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	if p.rc == nil {
		if err := p.begin(); err != nil {
			return 0, err
		}
	}
	n, err := p.rc.Read(b)
	p.n += int64(n)
	if p.hash != nil {
		_, _ = p.hash.Write(b[:n]) // a hash never fails
	}
	size := p.blob.Desc.Size
	switch {
	case size >= 0 && p.n > size:
		err = fmt.Errorf("%w: more than the %d bytes of its descriptor", oci.ErrDigestMismatch, size)
	case err == io.EOF && size >= 0 && p.n < size:
		err = fmt.Errorf("%w: %d of %d bytes", oci.ErrDigestMismatch, p.n, size)
	case err == io.EOF || p.n == size:
		p.done = true
	}
	if err != nil && err != io.EOF {
		return 0, p.failed(err)
	}
	return n, err
}

// begin opens the content unless the request is over without it.
func (p *pass) begin() error {
	if p.answered.given() {
		select {
		case <-p.wanted.c:
		case <-p.over.c:
		}
	}
	if p.over.given() {
		return errUnwanted
	}
	open := func() (io.ReadCloser, error) { return p.blob.Open(p.ctx) }
	if p.ahead != nil {
		open = p.take
	}
	rc, err := open()
	if err != nil {
		return p.failed(err)
	}
	p.rc = rc
	return nil
}

// take gives what was opened ahead. From now on it is p's, and ends with p.
func (p *pass) take() (io.ReadCloser, error) {
	select {
	case <-p.ahead.done:
	case <-p.over.c:
	}
	if p.over.given() {
		return nil, errUnwanted // it is kept for the next attempt
	}
	o := p.ahead
	p.ahead = nil
	context.AfterFunc(p.ctx, o.cancel)
	return o.rc, o.err
}

// failed keeps err as the content's, unless it failed because the pass is over.
func (p *pass) failed(err error) error {
	if !p.over.given() {
		p.err = err
	}
	return err
}

// Close ends the pass. The transport calls it, perhaps while it still reads.
func (p *pass) Close() error {
	p.over.give()
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rc == nil {
		return nil
	}
	err := p.rc.Close()
	p.rc = http.NoBody
	return err
}

// unread gives what was opened ahead and not taken, nil if there is none. The pass
// has ended.
func (p *pass) unread() *opening {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ahead
}

// end closes the pass and says what became of it: how many bytes were given,
// whether they were all, and the content's own failure.
func (p *pass) end() (n int64, all bool, err error) {
	_ = p.Close() // the content was read, or will not be
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n, p.done, p.err
}

// A signal is given once and can be waited for.
type signal struct {
	once *sync.Once
	c    chan struct{}
}

func newSignal() signal { return signal{new(sync.Once), make(chan struct{})} }

func (s signal) give() { s.once.Do(func() { close(s.c) }) }

func (s signal) given() bool {
	select {
	case <-s.c:
		return true
	default:
		return false
	}
}
