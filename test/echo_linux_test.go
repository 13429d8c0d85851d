package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// serveEchoes answers every connection to the target's rawPort with what it says,
// until the test ends.
func (l *lab) serveEchoes(t *testing.T) {
	t.Helper()
	ln, err := listenIn(l.ns(target), net.JoinHostPort(targetIP, rawPort))
	l.check(err)
	var running sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool) // nil once the test has ended
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if open == nil {
				conn.Close()
			} else {
				open[conn] = true
			}
			mu.Unlock()
			running.Go(func() {
				io.Copy(conn, conn)
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		open = nil
		mu.Unlock()
		running.Wait()
	})
}

// talk is how an echo talks.
type talk struct {
	lines int           // said at once
	every time.Duration // negative: without a pause
	total int           // lines, a multiple of those said at once; 0: until it is ended

	gate <-chan struct{} // says one line, and the rest once this is closed; nil: says all
}

const (
	echoLine = 64  // bytes
	bulkOnce = 500 // lines
)

// chat is a line each 20 ms.
var chat = talk{lines: 1, every: 20 * time.Millisecond}

// bulk is at least so many bytes as fast as they go.
func bulk(bytes int) talk {
	return talk{lines: bulkOnce, every: -1, total: (bytes/(bulkOnce*echoLine) + 1) * bulkOnce}
}

// behind is t once a gate is open, and a line before.
func (t talk) behind(gate <-chan struct{}) talk {
	t.gate = gate
	return t
}

// echo talks with the echo server through a connection, checks every byte that
// comes back, and measures how long nothing did.
type echo struct {
	t    *testing.T
	name string
	conn echoConn
	how  talk
	proc *process // what carries it; nil for a socket
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu      sync.Mutex // guards all below
	changed chan struct{}
	sent    int // lines
	heard   int // lines
	last    time.Time
	longest time.Duration
	said    bool // all that it shall say
	ended   bool // and all has been answered
	err     error
}

// echoConn can end what it says and still listen.
type echoConn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// newEcho starts to talk. It ends with the test.
func newEcho(t *testing.T, name string, conn echoConn, how talk) *echo {
	t.Helper()
	e := &echo{t: t, name: name, conn: conn, how: how, stop: make(chan struct{}), changed: make(chan struct{}), last: time.Now()}
	e.done.Go(e.say)
	e.done.Go(e.listen)
	t.Cleanup(func() {
		e.hush()
		conn.Close()
		e.done.Wait()
	})
	return e
}

// line appends line n, which no other line equals.
func line(b []byte, n int) []byte {
	number := strconv.AppendInt(nil, int64(n), 10)
	b = append(b, "line 0000000000"[:15-len(number)]...)
	b = append(b, number...)
	return append(b, " of what comes back as it was: 0123456789abcdefg\n"...)
}

func (e *echo) say() {
	defer func() {
		e.update(func() { e.said = true })
		if err := e.conn.CloseWrite(); err != nil {
			e.fail(fmt.Errorf("end what is said: %w", err))
		}
	}()
	var pause <-chan time.Time // nil: none
	if e.how.every >= 0 {
		ticker := time.NewTicker(max(e.how.every, time.Millisecond))
		defer ticker.Stop()
		pause = ticker.C
	}
	var buf []byte
	n := 0
	if e.how.gate != nil {
		n = 1
		e.update(func() { e.sent = n })
		if _, err := e.conn.Write(line(nil, 0)); err != nil {
			e.fail(fmt.Errorf("write line 0: %w", err))
			return
		}
		select {
		case <-e.how.gate:
		case <-e.stop:
			return
		}
	}
	for e.how.total == 0 || n < e.how.total {
		buf = buf[:0]
		for range e.how.lines {
			buf = line(buf, n)
			n++
		}
		e.update(func() { e.sent = n })
		if _, err := e.conn.Write(buf); err != nil {
			e.fail(fmt.Errorf("write line %d: %w", n, err))
			return
		}
		if pause == nil {
			select {
			case <-e.stop:
				return
			default:
				continue
			}
		}
		select {
		case <-pause:
		case <-e.stop:
			return
		}
	}
}

func (e *echo) listen() {
	r := bufio.NewReaderSize(e.conn, 64<<10)
	got, want := make([]byte, echoLine), make([]byte, 0, echoLine)
	for n := 0; ; n++ {
		k, err := io.ReadFull(r, got)
		if errors.Is(err, io.EOF) {
			e.update(func() {
				if e.said && n == e.sent {
					e.ended = true
				} else if e.err == nil {
					e.err = fmt.Errorf("the end came after %d of %d lines", n, e.sent)
				}
			})
			return
		}
		if err != nil {
			e.fail(fmt.Errorf("read line %d, and got %q: %w", n, got[:k], err))
			return
		}
		if want = line(want[:0], n); !bytes.Equal(got, want) {
			e.fail(fmt.Errorf("line %d came back as %q, want %q", n, got, want))
			return
		}
		now := time.Now()
		e.mu.Lock()
		e.longest = max(e.longest, now.Sub(e.last))
		e.last = now
		e.mu.Unlock()
		if r.Buffered() < echoLine { // once for all that came together
			e.update(func() { e.heard = n + 1 })
		}
	}
}

func (e *echo) update(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *echo) fail(err error) {
	e.update(func() {
		if e.err == nil {
			e.err = err
		}
	})
}

// failure returns why it talks no more, if so.
func (e *echo) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// until waits until reached is true, which is asked with the lock held.
func (e *echo) until(within time.Duration, what string, reached func() bool) {
	e.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		e.mu.Lock()
		ok, err, changed := reached(), e.err, e.changed
		sent, heard := e.sent, e.heard
		e.mu.Unlock()
		switch {
		case ok:
			return
		case err != nil:
			e.t.Fatalf("%s: waiting for %s: %v%s", e.name, what, err, e.told())
		}
		select {
		case <-changed:
		case <-deadline.C:
			e.t.Fatalf("%s: no %s within %s: %d lines were sent, %d came back%s", e.name, what, within, sent, heard, e.told())
		}
	}
}

// told is what the process said that carries it.
func (e *echo) told() string {
	if e.proc == nil {
		return ""
	}
	return fmt.Sprintf("; %s says %q", e.proc.state(), e.proc.stderr)
}

// flows waits until something comes back to each that is said after now, or
// anything at all to one that has a total, which may have said it long ago.
func flows(within time.Duration, echoes ...*echo) {
	marks := make([]int, len(echoes))
	for i, e := range echoes {
		e.mu.Lock()
		marks[i] = e.sent
		if e.how.total > 0 {
			marks[i] = e.heard
		}
		e.mu.Unlock()
	}
	for i, e := range echoes {
		e.t.Helper()
		e.until(within, "answer", func() bool { return e.heard > marks[i] || e.ended })
	}
}

// hears waits for the first so many lines.
func (e *echo) hears(lines int, within time.Duration) {
	e.t.Helper()
	e.until(within, fmt.Sprintf("line %d", lines), func() bool { return e.heard >= lines })
}

// heardLines returns how many lines have come back.
func (e *echo) heardLines() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// pause returns how long nothing came back at the longest, until now, since it was
// asked last.
func (e *echo) pause() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	longest := e.longest
	if !e.ended {
		longest = max(longest, time.Since(e.last))
	}
	e.longest = 0
	return longest
}

// silence returns how long nothing has come back.
func (e *echo) silence() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.last)
}

func (e *echo) hush() { e.once.Do(func() { close(e.stop) }) }

// finish fails the test unless all that was said has come back, and what carried
// it has nothing to say. One that has a total says it first.
func (e *echo) finish(within time.Duration) {
	e.t.Helper()
	if e.how.total == 0 {
		e.hush()
	}
	e.until(within, "end", func() bool { return e.ended })
	if e.proc == nil {
		return
	}
	if !e.proc.endsWithin(patience) || e.proc.status != 0 || e.proc.stderr.String() != "" {
		e.t.Errorf("%s: all has come back, yet %s and says %q", e.name, e.proc.state(), e.proc.stderr)
	}
}
