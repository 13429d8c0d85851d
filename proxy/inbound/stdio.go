package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// stdioBuffer is how much is read at once, in bytes: what a Linux pipe holds.
const stdioBuffer = 64 << 10

// watchTime is how often the output is looked at once it is watched, and after
// how long an input that nobody takes makes it so.
const watchTime = time.Second

// Stdio is the client's end of a ProxyCommand: its standard input and output as
// one connection. It reads ahead, so that what the client says first can travel
// with the OPEN.
type Stdio struct {
	out    *os.File
	chunks chan chunk    // closed by the reading goroutine
	cur    []byte        // of the last chunk, not read yet
	err    error         // after cur
	closed chan struct{} // closed by Close
	gone   chan struct{} // closed by watch

	closeOnce, watchOnce sync.Once
}

type chunk struct {
	b   []byte
	err error
}

// NewStdio joins in and out, and begins to read in. It owns both. A read of a
// file cannot be interrupted, so one goroutine reads in until its end or the
// process's.
func NewStdio(in io.Reader, out *os.File) *Stdio {
	s := &Stdio{out: out, chunks: make(chan chunk), closed: make(chan struct{}), gone: make(chan struct{})}
	go s.read(in)
	return s
}

// read fills two buffers in turn: one is filled while the other is sent.
func (s *Stdio) read(in io.Reader) {
	defer close(s.chunks)
	var bufs [2][]byte
	for i := 0; ; i = 1 - i {
		if bufs[i] == nil {
			bufs[i] = make([]byte, stdioBuffer)
		}
		n, err := in.Read(bufs[i])
		if !s.hand(chunk{bufs[i][:n], err}) {
			return
		}
		if err != nil {
			return
		}
	}
}

// hand gives c to whoever reads, and reports false when nobody will. When nobody
// does for a while the input's end cannot be seen, so the output is watched.
func (s *Stdio) hand(c chunk) bool {
	stuck := time.NewTimer(watchTime)
	defer stuck.Stop()
	for {
		select {
		case s.chunks <- c:
			return true
		case <-s.closed:
			return false
		case <-stuck.C:
			s.watch()
		}
	}
}

// take makes c the current chunk.
func (s *Stdio) take(c chunk, ok bool) {
	if !ok {
		c.err = io.EOF
	}
	s.cur, s.err = c.b, c.err
	if c.err != nil {
		s.watch()
	}
}

// Early takes what the client has said so far, at most wire.MaxEarly bytes. It
// does not wait. It must not be called while Read is.
func (s *Stdio) Early() []byte {
	if len(s.cur) == 0 && s.err == nil {
		select {
		case c, ok := <-s.chunks:
			s.take(c, ok)
		default:
		}
	}
	n := min(len(s.cur), wire.MaxEarly)
	early := s.cur[:n]
	s.cur = s.cur[n:]
	return early
}

// fill waits until there is something in cur.
func (s *Stdio) fill() error {
	for len(s.cur) == 0 {
		if s.err != nil {
			return s.err
		}
		select {
		case c, ok := <-s.chunks:
			s.take(c, ok)
		case <-s.closed:
			return net.ErrClosed
		}
	}
	return nil
}

// Read reads what the client says.
func (s *Stdio) Read(p []byte) (int, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.cur)
	s.cur = s.cur[n:]
	return n, nil
}

// WriteTo writes what the client says to w, from the buffer it was read into.
func (s *Stdio) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := s.fill(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(s.cur)
		s.cur = s.cur[n:]
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// watch waits, in the background, for the end of whoever reads the output: a
// client that was killed says no more and hears no more, and only the latter is
// its end.
func (s *Stdio) watch() {
	s.watchOnce.Do(func() {
		go func() {
			for {
				switch gone, err := readerGone(s.out); {
				case err != nil: // the target has ended, and this file been closed
					return
				case gone:
					close(s.gone)
					return
				}
				select {
				case <-time.After(watchTime):
				case <-s.closed:
					return
				}
			}
		}()
	})
}

// Gone is closed when the input has ended, or is stuck, and nobody reads the output
// any more, on systems that tell.
func (s *Stdio) Gone() <-chan struct{} { return s.gone }

// Write writes what the target says.
func (s *Stdio) Write(p []byte) (int, error) { return s.out.Write(p) }

// CloseWrite ends the output: the target says no more.
func (s *Stdio) CloseWrite() error { return s.out.Close() }

// Close ends reading. The files stay open until the process ends.
func (s *Stdio) Close() error {
	s.closeOnce.Do(func() { close(s.closed) })
	return nil
}
