package main

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/inbound"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/splice"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// logged is what a daemon logs while f works with its traces, without the times.
func logged(t *testing.T, f func(*client.Trace, *inbound.Trace)) string {
	t.Helper()
	cfg, err := config.Parse("", []byte("proxy: {relay: relay.test}"), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	d := &daemon{file: cfg, started: cfg, log: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))}
	f(d.trace(), d.clients())
	return b.String()
}

// TestTheLogTellsALossFromAReplacement: nothing is dialled again where a newer link
// has taken over.
func TestTheLogTellsALossFromAReplacement(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	conn := &transport.Conn{Conn: tls.Client(near, &tls.Config{InsecureSkipVerify: true})}
	got := logged(t, func(links *client.Trace, _ *inbound.Trace) {
		links.LinkUp(conn)
		links.LinkUp(conn) // beside the first, which was in doubt
		links.LinkLost(&link.LostError{Reason: link.MissedBeats})
		links.LinkLost(&link.LostError{Reason: link.Reset})
		links.LinkUp(conn)
		links.LinkLost(&link.LostError{Reason: link.Shutdown})
	})
	var said []string
	for line := range strings.Lines(got) {
		if !strings.Contains(line, `msg="link up"`) {
			said = append(said, strings.TrimSpace(line))
		}
	}
	want := []string{
		`level=INFO msg="link replaced by a newer one" reason=missed_beats`,
		`level=WARN msg="link lost, dialling again" reason=reset`,
		`level=INFO msg="link ended" reason=shutdown`,
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

// TestTheLogNamesWhoEndedASession, as a person knows the two.
func TestTheLogNamesWhoEndedASession(t *testing.T) {
	c := inbound.Client{Protocol: inbound.SOCKS5, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000}, Target: "db:22"}
	got := logged(t, func(_ *client.Trace, clients *inbound.Trace) {
		clients.Ended(c, splice.Result{})
		clients.Ended(c, splice.Result{Err: &splice.Error{Side: splice.A, Op: "write", Err: net.ErrClosed}})
	})
	for _, want := range []string{"reason=closed\n", `reason="write to client: use of closed network connection"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
