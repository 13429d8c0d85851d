package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// middlebox is a router on loopback: it forwards connections to one address,
// forgets those that are silent for too long, and answers what comes later with
// a reset, as many do. It can be told to misbehave.
type middlebox struct {
	idle   time.Duration
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu        sync.Mutex // guards all below
	open      map[net.Conn]struct{}
	forgotten int
	hole      chan struct{} // closed when the path is whole; nil: it is
	source    net.IP        // where it sends from; nil: anywhere
	moves     int           // times that source has changed
}

func newMiddlebox(ctx context.Context, target string, idle time.Duration) (*middlebox, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &middlebox{idle: idle, target: target, ln: ln, open: make(map[net.Conn]struct{})}
	m.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			m.wg.Go(func() { m.flow(ctx, c) })
		}
	})
	return m, nil
}

func (m *middlebox) addr() string { return m.ln.Addr().String() }

// resets is how many flows were forgotten and asked for afterwards.
func (m *middlebox) resets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forgotten
}

// swallow makes a black hole, or heals it: what was lost is then sent again, as
// TCP does.
func (m *middlebox) swallow(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case on && m.hole == nil:
		m.hole = make(chan struct{})
	case !on && m.hole != nil:
		close(m.hole)
		m.hole = nil
	}
}

// cut resets every flow.
func (m *middlebox) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.open {
		reset(c)
	}
}

// reset closes c with an RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// move lets new flows come from another address. The old ones are lost without a
// word: what is sent to the old address arrives nowhere.
func (m *middlebox) move(source net.IP) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.source = source
	m.moves++
}

// stays reports whether a flow of that time still has its address.
func (m *middlebox) stays(moves int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moves == moves
}

// close ends every flow and waits for it.
func (m *middlebox) close() {
	m.swallow(false)
	m.ln.Close()
	m.mu.Lock()
	for c := range m.open {
		c.Close()
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// flow is one connection with the router's memory of it.
type flow struct {
	mu   sync.Mutex // guards last
	last time.Time
}

// seen reports whether the flow is still known, and remembers this packet.
func (f *flow) seen(idle time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := time.Since(f.last) <= idle
	if known {
		f.last = time.Now()
	}
	return known
}

func (m *middlebox) flow(ctx context.Context, in net.Conn) {
	m.mu.Lock()
	dialer, moves := net.Dialer{}, m.moves
	if m.source != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: m.source}
	}
	m.mu.Unlock()
	out, err := dialer.DialContext(ctx, "tcp", m.target)
	if err != nil {
		in.Close()
		return
	}
	m.mu.Lock()
	m.open[in], m.open[out] = struct{}{}, struct{}{}
	m.mu.Unlock()
	f := &flow{last: time.Now()}
	var wg sync.WaitGroup
	wg.Go(func() { m.forward(f, moves, in, out) })
	wg.Go(func() { m.forward(f, moves, out, in) })
	wg.Wait()
	in.Close()
	out.Close()
	m.mu.Lock()
	delete(m.open, in)
	delete(m.open, out)
	m.mu.Unlock()
}

// forward carries one direction until it ends or the flow is forgotten.
func (m *middlebox) forward(f *flow, moves int, from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			if tcp, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = tcp.CloseWrite()
			} else { // an RST, cut's too, is one on the other side
				reset(to)
			}
			return
		}
		m.mu.Lock()
		hole := m.hole
		m.mu.Unlock()
		if hole != nil {
			<-hole
		}
		if !f.seen(m.idle) {
			m.mu.Lock()
			m.forgotten++
			m.mu.Unlock()
			reset(from)
			reset(to)
			return
		}
		if !m.stays(moves) {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil { // it has been reset: a FIN here would say that the peer had ended
			reset(from)
			return
		}
	}
}
