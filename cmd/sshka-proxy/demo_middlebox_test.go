package main

import (
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestACutIsAReset, also to a side that is writing to the other just then: a FIN in its
// place would say that the peer had ended.
func TestACutIsAReset(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("errors have other names here")
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var near, mid [2]net.Conn
	for i := range near {
		if near[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer near[i].Close()
		if mid[i], err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	reset(mid[1]) // cut comes here first
	if _, err := near[0].Write([]byte("typed")); err != nil {
		t.Fatal(err)
	}
	m := &middlebox{idle: time.Minute}
	m.forward(&flow{last: time.Now()}, 0, mid[0], mid[1])
	if _, err := near[0].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it is told %v", err)
	}
}
