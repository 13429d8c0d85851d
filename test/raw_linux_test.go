package test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// sshka-proxy without ssh, with an end that is slow to read: the last bytes are
// the ones that a hasty end would lose. They fit into the session's buffer, so the
// writer has long left when the reader begins.
const (
	rawSize = 3_000_000
	rawPort = "23" // allowed by the relay
)

func TestATargetThatClosesEarlyIsHeardToItsEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := l.randomFile(t, "sent", rawSize)
	l.serve(t, func(conn net.Conn) error {
		f, err := os.Open(l.path("sent"))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(conn, f)
		return err
	})
	command := program(t, "sshka-proxy") + " --config " + l.proxyConfig(nil) + " " + targetIP + " " + rawPort
	p := l.start(t, client, "sh", "-c", command+" | { sleep 2; sha256sum; }")
	p.expect("-\n")
	p.stdin.Close() // until now this way was open
	p.wait(0)
	if got := strings.TrimSuffix(p.stdout.String(), "  -\n"); got != want {
		t.Errorf("what arrived has the sum %q, want %q", got, want)
	}
	l.quiet(t, p)
}

func TestAClientThatClosesEarlyIsHeardToItsEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	want := l.randomFile(t, "sent", rawSize)
	arrived := make(chan string, 1)
	l.serve(t, func(conn net.Conn) error {
		time.Sleep(2 * time.Second) // the slow reader
		all, err := io.ReadAll(conn)
		arrived <- sumOf(string(all))
		return err
	})
	p := l.start(t, client, program(t, "sshka-proxy"), "--config", l.proxyConfig(nil), targetIP, rawPort)
	l.feed(t, p, "sent")
	p.wait(0)
	select {
	case got := <-arrived:
		if got != want {
			t.Errorf("what arrived has the sum %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Error("the target heard no end")
	}
	l.quiet(t, p)
}

// serve answers one connection in the target's namespace, and fails the test if
// handle fails.
func (l *lab) serve(t *testing.T, handle func(net.Conn) error) {
	t.Helper()
	var listener net.Listener
	l.check(inNamespace(l.ns(target), func() (err error) {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(targetIP, rawPort))
		return err
	}))
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			conn, err := listener.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			return handle(conn)
		}()
	}()
	t.Cleanup(func() {
		listener.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the target: %v", err)
		}
	})
}
