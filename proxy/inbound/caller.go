package inbound

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/sshka/sshka-proxy/proxy/splice"
)

const (
	// callerBuffer is how much is read ahead of a client before its target is
	// reached, in bytes.
	callerBuffer = 4 << 10
	// lingerTime and lingerBytes bound what is read of a client that was turned
	// away: a close with unread bytes is a reset, which would overtake the answer.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// caller is a client's connection. What was read ahead of it is read first.
type caller struct {
	net.Conn
	r     *bufio.Reader // of Conn; nil once it is empty and the client is joined
	login *Login        // that it must know; nil: none
}

func newCaller(conn net.Conn) *caller {
	return &caller{Conn: conn, r: bufio.NewReaderSize(conn, callerBuffer)}
}

// Read reads what was read ahead, then from the connection.
func (c *caller) Read(p []byte) (int, error) {
	if c.r != nil {
		if c.r.Buffered() > 0 {
			return c.r.Read(p)
		}
		c.r = nil // idle for hours, without its buffer
	}
	return c.Conn.Read(p)
}

// WriteTo writes what was read ahead to w, then the connection to its end
// (splice.Copy).
func (c *caller) WriteTo(w io.Writer) (total int64, err error) {
	if c.r != nil && c.r.Buffered() > 0 {
		p, _ := c.r.Peek(c.r.Buffered())
		n, err := w.Write(p)
		if total += int64(n); err != nil {
			return total, err
		}
	}
	c.r = nil
	n, err := splice.Copy(w, c.Conn)
	return total + n, err
}

// NetConn is the connection beneath.
func (c *caller) NetConn() net.Conn { return c.Conn }

// CloseWrite ends what the target says.
func (c *caller) CloseWrite() error {
	if conn, ok := c.Conn.(splice.Conn); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Abort lets the client see an error, never a clean end.
func (c *caller) Abort(cause error) { abort(c.Conn, cause) }

// abort ends c with an error at its other end, where c can do that.
func abort(c io.Closer, cause error) {
	switch c := c.(type) {
	case splice.Aborter:
		c.Abort(cause)
	case *net.TCPConn:
		_ = c.SetLinger(0) // Close sends RST
		c.Close()
	default:
		c.Close()
	}
}

// watch looks after a client that waits for its target, and reads ahead what it
// says meanwhile. gone is called when the client resets its connection, or says
// its end and has then waited for patience: it may have closed, or have no more
// to say, and TCP tells these apart only when we write. stop ends the watch and
// returns why gone was called, if it was.
func (c *caller) watch(gone func(error), patience time.Duration) (stop func() error) {
	stopped, done := make(chan struct{}), make(chan error, 1)
	go func() {
		err := c.readAhead()
		if errors.Is(err, io.EOF) {
			late := time.NewTimer(patience)
			defer late.Stop()
			select {
			case <-late.C:
			case <-stopped:
				err = nil
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // stop's
			err = nil
		}
		if err != nil {
			err = &goneError{err}
			gone(err)
		}
		done <- err
	}()
	return func() error {
		close(stopped)
		c.SetReadDeadline(time.Unix(1, 0))
		err := <-done
		c.SetReadDeadline(time.Time{})
		return err
	}
}

// readAhead fills the buffer, and returns nil when it is full.
func (c *caller) readAhead() error {
	for {
		_, err := c.r.Peek(c.r.Buffered() + 1)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil
		case err != nil:
			return err
		}
	}
}

// goneError is why a dial was given up.
type goneError struct{ err error }

func (e *goneError) Error() string { return "the client has gone: " + e.err.Error() }

// Unwrap returns what reading from the client said.
func (e *goneError) Unwrap() error { return e.err }

// turnAway sends the client a last answer, which may be nil, and closes c so that
// the answer arrives.
func (c *caller) turnAway(answer []byte) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(lingerTime))
	if len(answer) > 0 {
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
	if err := c.CloseWrite(); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, lingerBytes))
	}
}
