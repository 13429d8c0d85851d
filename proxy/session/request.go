package session

import (
	"io"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Request is what a carrier said first at the relay: an OPEN or a RESUME.
// Answer or Refuse ends it.
type Request struct {
	// Open is set for a new session, Resume for one carried on.
	Open   *wire.Open
	Resume *wire.Resume

	c io.ReadWriteCloser
}

// Receive reads a carrier's first frame. The caller bounds its time by closing
// c, and closes it after an error.
func Receive(c io.ReadWriteCloser) (*Request, error) {
	m, err := wire.Read(c)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *wire.Open:
		return &Request{Open: m, c: c}, nil
	case *wire.Resume:
		return &Request{Resume: m, c: c}, nil
	}
	return nil, wire.Unexpected(m)
}

// Generation is that of the request's carrier.
func (r *Request) Generation() uint64 {
	if r.Open != nil {
		return r.Open.Generation
	}
	return r.Resume.Generation
}

// Refuse answers the request with a reason and closes its carrier.
func (r *Request) Refuse(code wire.Code, message string) error {
	return r.RefuseUntil(code, 0, message)
}

// RefuseUntil is Refuse with a time after which the proxy may ask again.
func (r *Request) RefuseUntil(code wire.Code, after time.Duration, message string) error {
	_, err := r.c.Write(wire.Append(nil, &wire.Refused{Code: code, RetryAfter: after, Message: message}))
	r.c.Close()
	return err
}

// buryTime is how long a proxy that was told of the end may take to say whether it
// had a RESET to send: a round trip.
const buryTime = 10 * time.Second

// Bury answers the RESUME of a session that has ended: everything up to final was
// received. So the proxy, whose last acknowledgement was lost, ends cleanly too;
// and a RESET of the proxy's whose confirmation was lost, or which crossed the
// clean end, is confirmed. It takes buryTime at most.
func (r *Request) Bury(final uint64) error {
	defer r.c.Close()
	t := time.AfterFunc(buryTime, func() { r.c.Close() })
	defer t.Stop()
	if _, err := r.c.Write(wire.Append(nil, &wire.OK{Received: final, Limit: final})); err != nil {
		return err
	}
	for {
		m, err := wire.Read(r.c)
		if err != nil {
			return nil // the proxy has heard it, or will ask again
		}
		if m.Type() == wire.TypeReset {
			_, err := r.c.Write(wire.Append(nil, &wire.ResetAck{}))
			return err
		}
	}
}

// Drop closes the request's carrier without an answer.
func (r *Request) Drop() { r.c.Close() }

// Watch calls gone when the proxy gives the request up, or breaks the protocol by
// sending on, before it is answered: there is no use in dialling on. It must be
// called at most once, before Answer. gone is also called when the carrier ends
// later.
func (r *Request) Watch(gone func()) {
	w := &watched{ReadWriteCloser: r.c, first: make(chan struct{})}
	r.c = w
	go func() {
		_, w.err = io.ReadFull(w.ReadWriteCloser, w.b[:])
		w.mu.Lock()
		early := !w.answered
		w.mu.Unlock()
		if w.err != nil || early {
			gone()
		}
		close(w.first)
	}()
}

// watched is a carrier whose first byte is being read ahead.
type watched struct {
	io.ReadWriteCloser
	first chan struct{} // closed when b or err is set
	b     [1]byte
	err   error
	taken bool // b was handed on; only Read touches it

	mu       sync.Mutex
	answered bool
}

// Silence is the carrier's (Silencer).
func (w *watched) Silence() time.Duration {
	if c, ok := w.ReadWriteCloser.(Silencer); ok {
		return c.Silence()
	}
	return 0
}

// Write is the answer, and what follows it.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.answered = true
	w.mu.Unlock()
	return w.ReadWriteCloser.Write(p)
}

func (w *watched) Read(p []byte) (int, error) {
	if w.taken || len(p) == 0 {
		return w.ReadWriteCloser.Read(p)
	}
	<-w.first
	if w.err != nil {
		return 0, w.err
	}
	w.taken = true
	p[0] = w.b[0]
	return 1, nil
}
