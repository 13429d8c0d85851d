package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// check looks into both ends (I2, I3).
func (m *model) check() {
	m.mu.Lock()
	relay := m.relay
	m.mu.Unlock()
	if relay == nil {
		return
	}
	for _, end := range []struct {
		name       string
		from, to   *Session
		fromBuffer int
		toBuffer   int
	}{
		{"to the relay", m.proxy, relay, m.proxyApp.buffer, m.relayApp.buffer},
		{"to the proxy", relay, m.proxy, m.relayApp.buffer, m.proxyApp.buffer},
	} {
		end.from.mu.Lock()
		una, held := end.from.m.una, end.from.m.out.len()
		end.from.mu.Unlock()
		end.to.mu.Lock()
		received, stored := end.to.m.received, end.to.m.in.len()
		end.to.mu.Unlock()
		end.from.mu.Lock()
		sent := end.from.m.sentEnd()
		end.from.mu.Unlock()
		early := 0
		if end.to == relay {
			early = end.fromBuffer // has no credit to ask for
		}
		switch {
		case una > received || received > sent:
			m.fail("%s: acknowledged %d, stored %d, sent %d", end.name, una, received, sent)
		case held > end.fromBuffer:
			m.fail("%s: %d bytes are kept, the buffer is %d", end.name, held, end.fromBuffer)
		case stored > max(end.toBuffer, early):
			m.fail("%s: %d bytes are stored, the buffer is %d", end.name, stored, end.toBuffer)
		}
	}
}

// verdict judges a session that has ended at both ends.
func (m *model) verdict() {
	m.mu.Lock()
	relay, restart := m.relay, m.restart
	m.mu.Unlock()
	p, q := m.proxyApp, m.relayApp
	err := m.proxy.Err()
	if relay == nil {
		if !m.unreachable && !p.quitted && !restart {
			m.fail("never opened: %v", err)
		}
		if p.eof {
			m.fail("the proxy's application read an end that nobody wrote")
		}
		return
	}
	m.judgeReset(err)
	m.judgeReset(relay.Err())
	m.judgeEnd("proxy", m.proxy, p, q, relay)
	m.judgeEnd("relay", relay, q, p, m.proxy)
	gaveUp := p.quitted || q.quitted || restart
	if !gaveUp && (err != nil || !p.eof || !q.eof) {
		m.fail("nobody gave up, but the proxy's end says %v and the relay's %v", err, relay.Err())
	}
	rerr := relay.Err()
	if rerr != nil && !gaveUp && !errors.Is(rerr, errExpired) {
		m.fail("nobody gave up, but the relay's end says %v", rerr)
	}
	// The proxy's very last word may be lost with its carrier; one that has gone before
	// it knew of the session has nothing to tell; and one that has ended cleanly hears
	// no reset any more.
	excused := slices.ContainsFunc(m.lines, func(l *line) bool { return m.lastWord(l.lostWord()) }) ||
		p.quitted && (p.quits == dies || !m.proxy.Stats().Opened) ||
		q.quitted && err == nil
	if (errors.Is(rerr, errExpired) || m.orphaned > orphanTime) && !excused {
		m.fail("an orphan at the relay for %v: the proxy's end says %v, the relay's %v", m.orphaned, err, rerr)
	}
	var reset *ResetError
	if q.quitted && !p.quitted && !restart && err != nil && !errors.As(err, &reset) {
		m.fail("the relay's application gave up, the proxy's is told %v", err)
	}
	// One that writes first may wait for ever, and then reads no more.
	if q.quits == breaks && q.quitted && !p.quitted && !p.writeFirst && reset != nil && reset.Code == wire.CodeTargetReset && p.read != q.written {
		m.fail("the target wrote %d bytes and reset: the proxy's application has read %d before that", q.written, p.read)
	}
}

// orphanTime is how long the relay's end may outlive the proxy's.
const orphanTime = 10 * time.Minute

// lastWord reports whether frames told the relay that all is over.
func (m *model) lastWord(frames []byte) bool {
	for r := bytes.NewReader(frames); r.Len() > 0; {
		msg, err := wire.Read(r)
		if err != nil {
			return false
		}
		switch msg := msg.(type) {
		case *wire.Ack:
			if msg.Received == m.proxy.Final() {
				return true
			}
		case *wire.Resume:
			if msg.Received == m.proxy.Final() {
				return true
			}
		case *wire.ResetAck:
			return true
		}
	}
	return false
}

// judgeReset fails on what no end may ever say of the other.
func (m *model) judgeReset(err error) {
	var reset *ResetError
	if errors.As(err, &reset) && reset.Code == wire.CodeProtocol {
		m.fail("%v", err)
	}
}

// judgeEnd: an end is clean only if every byte has arrived, both ways.
func (m *model) judgeEnd(name string, s *Session, own, other *app, peer *Session) {
	if own.eof && (!other.ended || own.read != other.written) {
		m.fail("%s: read the end after %d bytes; the peer wrote %d and ended: %v", name, own.read, other.written, other.ended)
	}
	if s.Err() != nil {
		return
	}
	if got := peer.Final(); !own.ended || got != uint64(own.written)+1 {
		m.fail("%s: ended cleanly after %d bytes (ended: %v), the peer stored %d", name, own.written, own.ended, got)
	}
	if other.read != own.written && !other.late {
		m.fail("%s: ended cleanly, but the peer has read %d of %d bytes", name, other.read, own.written)
	}
	if !own.eof && !own.quitted {
		m.fail("%s: ended cleanly without reading the end: %v", name, own.readErr)
	}
}

// tally is what a run of the model test went through: a schedule that disturbs
// nothing proves nothing.
type tally struct {
	mu                                            sync.Mutex // guards all below
	sessions, carriers, cut, clean, reset, orphan int
}

func (y *tally) add(m *model) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.sessions++
	y.carriers += len(m.lines)
	for _, l := range m.lines {
		if l.severed {
			y.cut++
		}
	}
	if m.proxy.Err() == nil {
		y.clean++
	} else {
		y.reset++
	}
	if m.relay != nil && errors.Is(m.relay.Err(), errExpired) {
		y.orphan++
	}
}

func (y *tally) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return fmt.Sprintf("%d sessions, %d carriers, %d cut; %d ended cleanly, %d did not, %d were left to expire",
		y.sessions, y.carriers, y.cut, y.clean, y.reset, y.orphan)
}
