package test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// What a client asks of the target: the first byte of a session, before the number of
// the transfer that it belongs to.
const (
	askEcho     = 'e' // sends back what comes
	askUpload   = 'u' // swallows and counts
	askDownload = 'd' // sends until it is closed

	askSize  = 9
	greeting = "hello\r\n"
	bulkRoom = 256 << 10 // bytes of a write or read of bulk
)

// The target's ports, at the relay's address.
const (
	askPort   = 9001 // waits for the client to speak
	greetPort = 9002 // speaks first, as sshd does
	pingPort  = 9003 // UDP: sends back what comes
)

// farAddress is where a port of the far end is.
func farAddress(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(relayIP), uint16(port))
}

// answerer is the target.
type answerer struct {
	next      atomic.Uint64
	transfers sync.Map // number → *atomic.Int64, bytes that have arrived
}

// transfer returns a new number and the count of what arrives under it.
func (a *answerer) transfer() (uint64, *atomic.Int64) {
	number, count := a.next.Add(1), new(atomic.Int64)
	a.transfers.Store(number, count)
	return number, count
}

// ask is what a client says first.
func ask(what byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{what}, number)
}

// startTarget serves both ports in a namespace until the test ends.
func startTarget(t *testing.T, l *lab, r role) *answerer {
	t.Helper()
	a := new(answerer)
	var running sync.WaitGroup
	var open sync.Map // of net.Conn
	for port, serve := range map[int]func(net.Conn){
		askPort:   a.serve,
		greetPort: greet,
	} {
		ln, err := listenIn(l.ns(r), net.JoinHostPort(relayIP, strconv.Itoa(port)))
		l.check(err)
		running.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				open.Store(conn, nil)
				running.Go(func() {
					serve(conn)
					conn.Close()
					open.Delete(conn)
				})
			}
		})
		t.Cleanup(func() { ln.Close() })
	}
	var pings *net.UDPConn
	l.check(inNamespace(l.ns(r), func() (err error) {
		pings, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(farAddress(pingPort)))
		return err
	}))
	running.Go(func() { echoPings(pings) })
	t.Cleanup(func() {
		pings.Close()
		open.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
	})
	return a
}

func greet(conn net.Conn) {
	io.WriteString(conn, greeting)
	io.Copy(io.Discard, conn)
}

func (a *answerer) serve(conn net.Conn) {
	var asked [askSize]byte
	if _, err := io.ReadFull(conn, asked[:]); err != nil {
		return
	}
	switch asked[0] {
	case askEcho:
		buf := make([]byte, 512) // thousands of them may idle
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if _, err := conn.Write(buf[:n]); err != nil {
				return
			}
		}
	case askUpload:
		count, ok := a.transfers.Load(binary.BigEndian.Uint64(asked[1:]))
		if !ok {
			return
		}
		buf := make([]byte, bulkRoom)
		for {
			n, err := conn.Read(buf)
			count.(*atomic.Int64).Add(int64(n))
			if err != nil {
				return
			}
		}
	case askDownload:
		buf := make([]byte, bulkRoom)
		for {
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}
}

func echoPings(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		conn.WriteToUDPAddrPort(buf[:n], from)
	}
}
