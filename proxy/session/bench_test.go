package session

import (
	"context"
	"io"
	"net"
	"testing"
)

// loopback returns both ends of a TCP connection.
func loopback(b *testing.B) (net.Conn, net.Conn) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return near, far
}

// benchEnds joins a session over a TCP connection, without a link.
func benchEnds(b *testing.B) *ends {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	near, far := loopback(b)
	e := open(ctx, b, Config{}, near, far)
	b.Cleanup(func() {
		e.proxy.Abort(nil)
		e.relay.Abort(nil)
		cancel()
		e.wg.Wait()
	})
	return e
}

// BenchmarkThroughput is bulk over one carrier.
func BenchmarkThroughput(b *testing.B) {
	e := benchEnds(b)
	const size = 64 << 10
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, e.relay)
		done <- err
	}()
	buf := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.proxy.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	e.proxy.CloseWrite()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEcho is a keystroke there and back.
func BenchmarkEcho(b *testing.B) {
	e := benchEnds(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(e.relay, e.relay)
	}()
	key := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.proxy.Write(key); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(e.proxy, key); err != nil {
			b.Fatal(err)
		}
	}
	e.proxy.Abort(nil)
	<-done
}
