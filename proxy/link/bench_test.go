package link

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// benchCarrier opens a carrier of a link over TCP, without TLS.
func benchCarrier(b *testing.B) (near, far io.ReadWriteCloser) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	cfg := quiet
	cfg.Receipts = true
	ma, mb := NewMeter(dialled), NewMeter(accepted)
	proxy, err := Client(ma, ma, cfg)
	if err != nil {
		b.Fatal(err)
	}
	relay, err := Server(mb, mb, cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { proxy.Run(ctx) })
	running.Go(func() { relay.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
	})
	if near, err = proxy.Open(ctx); err != nil {
		b.Fatal(err)
	}
	if far, err = relay.Accept(ctx); err != nil {
		b.Fatal(err)
	}
	return near, far
}

// BenchmarkThroughput is bulk over one carrier.
func BenchmarkThroughput(b *testing.B) {
	near, far := benchCarrier(b)
	const size = 64 << 10
	written := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, far)
		written <- n
	}()
	buf := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := near.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	near.Close()
	if n := <-written; n != int64(b.N)*size {
		b.Fatalf("%d bytes arrived of %d", n, int64(b.N)*size)
	}
}

// BenchmarkEcho is a keystroke there and back.
func BenchmarkEcho(b *testing.B) {
	near, far := benchCarrier(b)
	go io.Copy(far, far) // ends with the link
	key := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := near.Write(key); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(near, key); err != nil {
			b.Fatal(err)
		}
	}
}
