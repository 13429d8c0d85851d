package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// withoutUnixSockets makes this system one that has none.
func withoutUnixSockets(t *testing.T) {
	t.Helper()
	instead, listen := loopbackInstead, listenUnix
	loopbackInstead = true
	listenUnix = func(context.Context, string) (net.Listener, error) { return nil, errors.ErrUnsupported }
	t.Cleanup(func() { loopbackInstead, listenUnix = instead, listen })
}

// startLoopback runs a daemon on a system without unix sockets, with an echo behind
// it. stop ends it and waits until it has.
func startLoopback(t *testing.T) (path string, stop func()) {
	t.Helper()
	withoutUnixSockets(t)
	path = filepath.Join(t.TempDir(), "sshka", "proxy.sock")
	var wg sync.WaitGroup
	s := &Socket{
		Version: "1.2.3",
		Relay:   "relay.test:7422",
		Open: func(context.Context) (*Carrier, error) {
			a, b := simnet.Pipe(simnet.Line{})
			wg.Go(func() {
				io.Copy(b, b)
				b.Close()
			})
			return &Carrier{ReadWriteCloser: a, Instance: wire.ID{9}, Window: time.Hour}, nil
		},
		Status: func() *status.Snapshot { return &status.Snapshot{Schema: status.Schema, Role: "proxy"} },
	}
	ln, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		if err := s.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return path, stop
}

func TestLoopbackStandsForTheSocket(t *testing.T) {
	path, stop := startLoopback(t)
	carrier, err := (&Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422", Target: "db:22"}).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	go carrier.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(carrier, got); err != nil || !bytes.Equal(got, data) {
		t.Error(err)
	}
	carrier.Close()

	o := &Operator{Path: path, Version: "1.2.3"}
	if s, err := o.Status(t.Context()); err != nil || s.Role != "proxy" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := ListenSocket(t.Context(), path); !errors.Is(err, ErrDaemonRuns) {
		t.Errorf("a second daemon: %v", err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its end the file is there: %v", err)
	}
	if _, err := o.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

// TestWhoDoesNotKnowTheTokenLearnsNothing: not even the version.
func TestWhoDoesNotKnowTheTokenLearnsNothing(t *testing.T) {
	path, _ := startLoopback(t)
	right, err := readLoopbackFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrong := right
	wrong.token[31] ^= 1
	if _, err := wrong.dial(t.Context()); err == nil {
		t.Error("a client with another token was let in")
	}
	for name, say := range map[string]func(nonce []byte) []byte{
		"a request":          func([]byte) []byte { return []byte(`{"request":"status"}` + strings.Repeat("\n", 100)) },
		"the daemon's proof": func(nonce []byte) []byte { return append(bytes.Clone(nonce), right.proof("daemon", nonce, nonce)...) },
		"the proof of another nonce": func(nonce []byte) []byte {
			return append(bytes.Clone(nonce), right.proof("client", make([]byte, nonceSize), nonce)...)
		},
		"the token itself": func([]byte) []byte { return append(bytes.Clone(right.token[:]), right.token[:]...) },
	} {
		conn, err := net.Dial("tcp", right.address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		nonce := make([]byte, nonceSize)
		if _, err := io.ReadFull(conn, nonce); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(say(nonce)); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(conn) // an end, or a reset
		var timeout net.Error
		if len(rest) != 0 || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s was answered with %q, %v", name, rest, err)
		}
	}
	if c, err := right.dial(t.Context()); err != nil {
		t.Errorf("the token: %v", err)
	} else {
		c.Close()
	}
}

// TestAnotherProgramAtThePortGetsNothing: it has taken the port of a daemon that was
// killed, answers as well as it can, and hears a nonce and a proof that is of no use.
func TestAnotherProgramAtThePortGetsNothing(t *testing.T) {
	withoutUnixSockets(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write(make([]byte, nonceSize))
		said := make([]byte, nonceSize+32)
		io.ReadFull(conn, said)
		conn.Write(said[nonceSize:]) // what it was told, back
		rest, _ := io.ReadAll(conn)
		heard <- rest
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	path := filepath.Join(t.TempDir(), "proxy.sock")
	text := ln.Addr().String() + " " + strings.Repeat("ab", tokenSize) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422"}
	if _, err := d.Open(t.Context()); !errors.Is(err, ErrNoDaemon) || !errors.Is(err, errNotProved) {
		t.Errorf("%v", err)
	}
	if rest := <-heard; len(rest) != 0 {
		t.Errorf("it heard %q", rest)
	}
}

func TestWhatADaemonLeftThereIsReplaced(t *testing.T) {
	withoutUnixSockets(t)
	path := filepath.Join(t.TempDir(), "proxy.sock")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	ln.Close()
	for text, replaced := range map[string]bool{
		"": true, // it was killed while it wrote
		dead + " " + strings.Repeat("00", tokenSize) + "\n": true,
		"my notes\n":                                      false,
		"127.0.0.1:80 00\n":                               false,
		strings.Repeat("00 ", 1<<16):                      false,
		"192.0.2.1:80 " + dead + "\n":                     false,
		"192.0.2.1:80 " + strings.Repeat("00", tokenSize): false, // elsewhere
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ln, err := ListenSocket(t.Context(), path)
		if replaced != (err == nil) {
			t.Errorf("%.40q: %v", text, err)
		}
		if err == nil {
			ln.Close()
		}
	}
	// A listener removes its own file only.
	os.Remove(path)
	ln, err = ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	other := loopbackPort{address: ln.(*loopbackListener).port.address}
	if err := os.WriteFile(path, []byte(other.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if got, err := readLoopbackFile(path); err != nil || got != other {
		t.Errorf("%v, %v", got, err)
	}
}

// TestOnlyWindowsTakesAFileForASocket: elsewhere the kernel says whose a socket is, and
// a file would not.
func TestOnlyWindowsTakesAFileForASocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this is Windows")
	}
	path, _ := startLoopback(t)
	loopbackInstead = false
	d := &Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422"}
	if _, err := d.Open(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("%v", err)
	}
	if _, err := ListenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "is there and is no socket") {
		t.Errorf("%v", err)
	}
}
