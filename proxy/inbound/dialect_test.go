package inbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// script is a client that says parts, one at each read, and then its end. What it
// hears is kept. It stands for a target, too.
type script struct {
	mu     sync.Mutex
	parts  [][]byte
	heard  bytes.Buffer
	closed int
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.parts) > 0 && len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
	}
	switch {
	case s.closed > 0:
		return 0, net.ErrClosed
	case len(s.parts) == 0:
		return 0, io.EOF
	}
	n := copy(p, s.parts[0])
	s.parts[0] = s.parts[0][n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed > 0 {
		return 0, net.ErrClosed
	}
	return s.heard.Write(p)
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// unread is what was not read, in bytes.
func (s *script) unread() int { return len(bytes.Join(s.parts, nil)) }

func (*script) CloseWrite() error                { return nil }
func (*script) LocalAddr() net.Addr              { return simAddr{} }
func (*script) RemoteAddr() net.Addr             { return simAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

type simAddr struct{}

func (simAddr) Network() string { return "script" }
func (simAddr) String() string  { return "script" }

// play lets a Server serve a client that says parts. dialled is nil when no
// target was asked for.
func play(t testing.TB, parts ...[]byte) (client, target *script, address string) {
	t.Helper()
	client = &script{parts: parts}
	s := &Server{Dial: func(_ context.Context, network, a string) (net.Conn, error) {
		if target != nil || network != "tcp" {
			t.Errorf("dialled twice, or %s", network)
		}
		target, address = &script{}, a
		return target, nil
	}}
	if serve := s.serveConn(t.Context(), client, ""); serve != nil {
		serve()
	}
	if client.closed == 0 || target != nil && target.closed == 0 {
		t.Error("left open")
	}
	return client, target, address
}

func TestARequestMayBeSplitAnywhere(t *testing.T) {
	const data = "SSH-2.0-test\r\n"
	for _, w := range ways {
		all := []byte(w.hello + data)
		for i := range len(all) + 1 {
			client, target, address := play(t, all[:i:i], all[i:])
			if target == nil || target.heard.String() != data || address != w.address || client.heard.String() != w.answer {
				t.Fatalf("%s, split at %d: %q heard %q", w.name, i, address, client.heard.String())
			}
		}
		single := make([][]byte, len(all))
		for i := range all {
			single[i] = all[i : i+1]
		}
		if _, target, _ := play(t, single...); target == nil || target.heard.String() != data {
			t.Errorf("%s, byte by byte: not understood", w.name)
		}
	}
}

func TestARequestThatEndsEarlyIsNone(t *testing.T) {
	for _, w := range ways {
		for i := range len(w.hello) {
			if _, target, _ := play(t, []byte(w.hello[:i])); target != nil {
				t.Errorf("%s: the first %d bytes were enough", w.name, i)
			}
		}
	}
}

func TestNonsenseIsAnsweredAndGoesNowhere(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ name, says, hears string }{
		{"nothing", "", ""},
		{"another byte", "\x16\x03\x01", ""},
		{"socks5 no methods", "\x05\x00", "\x05\xff"},
		{"socks5 password only", "\x05\x01\x02", "\x05\xff"},
		{"socks5 another version", "\x05\x01\x00\x04\x01\x00", "\x05\x00"},
		{"socks5 bind", "\x05\x01\x00\x05\x02\x00\x01\x0a\x00\x00\x07\x00\x16", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 udp", "\x05\x01\x00\x05\x03\x00\x03\x01a\x00\x16", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 command 9", "\x05\x01\x00\x05\x09\x00\x01\x0a\x00\x00\x07\x00\x16", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 address type 2", "\x05\x01\x00\x05\x01\x00\x02\x0a\x00\x00\x07\x00\x16", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 empty name", "\x05\x01\x00\x05\x01\x00\x03\x00\x00\x16", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 port 0", "\x05\x01\x00\x05\x01\x00\x03\x02db\x00\x00", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 a nul in the name", "\x05\x01\x00\x05\x01\x00\x03\x02d\x00\x00\x16", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 no UTF-8", "\x05\x01\x00\x05\x01\x00\x03\x02d\xff\x00\x16", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 a name with a port", "\x05\x01\x00\x05\x01\x00\x03\x05db:23\x00\x16", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks5 brackets", "\x05\x01\x00\x05\x01\x00\x03\x05[::1]\x00\x16", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"socks4 bind", "\x04\x02\x00\x16\x0a\x00\x00\x07\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"socks4 port 0", "\x04\x01\x00\x00\x0a\x00\x00\x07\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"socks4 long user id", "\x04\x01\x00\x16\x0a\x00\x00\x07" + long + "\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"socks4a empty name", "\x04\x01\x00\x16\x00\x00\x00\x01\x00\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"socks4a long name", "\x04\x01\x00\x16\x00\x00\x00\x01\x00" + long + "\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"socks4a a space in the name", "\x04\x01\x00\x16\x00\x00\x00\x01\x00d b\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
	} {
		client, target, address := play(t, []byte(c.says))
		if got := client.heard.String(); got != c.hears || target != nil {
			t.Errorf("%s: heard %q, want %q; dialled %q", c.name, got, c.hears, address)
		}
	}
}

func TestTheLongestTextsAreTaken(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, says := range []string{
		"\x04\x01\x00\x16\x00\x00\x00\x01" + long + "\x00" + long + "\x00",
		"\x05\x01\x00\x05\x01\x00\x03\xff" + long + "\x00\x16",
		"CONNECT " + long + ":22 HTTP/1.1\r\n\r\n",
	} {
		if _, _, address := play(t, []byte(says)); address != long+":22" {
			t.Errorf("dialled %q", address)
		}
	}
}

func TestNonsenseInHTTPHasAStatus(t *testing.T) {
	long := strings.Repeat("x", maxHeader)
	for _, c := range []struct {
		name, says string
		status     int
	}{
		{"get", "GET http://db/ HTTP/1.1\r\nHost: db\r\n\r\n", 405},
		{"post with a body", "POST /x HTTP/1.1\r\nHost: db\r\nContent-Length: 3\r\n\r\nabc", 405},
		{"http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405},
		{"connect in 2.0", "CONNECT db:22 HTTP/2.0\r\n\r\n", 400},
		{"no port", "CONNECT db HTTP/1.1\r\n\r\n", 400},
		{"port 0", "CONNECT db:0 HTTP/1.1\r\n\r\n", 400},
		{"port 65536", "CONNECT db:65536 HTTP/1.1\r\n\r\n", 400},
		{"signed port", "CONNECT db:+22 HTTP/1.1\r\n\r\n", 400},
		{"no host", "CONNECT :22 HTTP/1.1\r\n\r\n", 400},
		{"user", "CONNECT me@db:22 HTTP/1.1\r\n\r\n", 400},
		{"path", "CONNECT db:22/x HTTP/1.1\r\n\r\n", 400},
		{"long name", "CONNECT " + long[:256] + ":22 HTTP/1.1\r\n\r\n", 400},
		{"no header", "hello\r\n\r\n", 400},
		{"bad header", "CONNECT db:22 HTTP/1.1\r\nnonsense\r\n\r\n", 400},
		{"long line", "CONNECT db:22 HTTP/1.1\r\nX: " + long + "\r\n\r\n", 431},
		{"many lines", "CONNECT db:22 HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHeader/6) + "\r\n", 431},
	} {
		client, target, address := play(t, []byte(c.says))
		if target != nil {
			t.Errorf("%s: dialled %q", c.name, address)
		}
		res := readReply(t, client.heard.Bytes())
		if res.status != c.status {
			t.Errorf("%s: %d, want %d", c.name, res.status, c.status)
		}
		if allow := res.header.Get("Allow"); (allow == "CONNECT") != (c.status == 405) {
			t.Errorf("%s: Allow %q", c.name, allow)
		}
	}
}

// readReply reads an HTTP answer that is well formed, with one line of text.
func readReply(t testing.TB, b []byte) *httpReply {
	t.Helper()
	res, err := parseReply(b)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	if strings.Count(res.body, "\n") != 1 || !strings.HasSuffix(res.body, "\n") {
		t.Errorf("body %q", res.body)
	}
	return res
}

// refusal is an error as the relay's.
type refusal wire.Code

func (r refusal) Error() string {
	return "the relay says: " + wire.Code(r).String() + "\r\nX-Evil: yes"
}

func (r refusal) RefusalCode() wire.Code { return wire.Code(r) }

func TestRepliesTellTheTruth(t *testing.T) {
	for _, c := range []struct {
		err    error
		socks5 byte
		http   int
	}{
		{refusal(wire.CodeNotAllowed), 2, 403},
		{refusal(wire.CodeNoSuchHost), 4, 502},
		{refusal(wire.CodeUnreachable), 3, 502},
		{refusal(wire.CodeRefused), 5, 502},
		{refusal(wire.CodeTimeout), 6, 504},
		{refusal(wire.CodeBusy), 1, 503},
		{refusal(wire.CodeSlowDown), 1, 503},
		{refusal(wire.CodeShuttingDown), 1, 503},
		{refusal(wire.CodeFailed), 1, 502},
		{refusal(999), 1, 502},
		{fmt.Errorf("wrapped: %w", refusal(wire.CodeRefused)), 5, 502},
		// A text is no reason: go-socks5 would say 5 and 3.
		{errors.New("refused"), 1, 503},
		{errors.New("network is unreachable"), 1, 503},
		{errors.New("no link to the relay"), 1, 503},
		{context.DeadlineExceeded, 6, 504},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, 4, 502},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, 6, 504},
		{syscall.ECONNREFUSED, 5, 502},
	} {
		for _, w := range ways {
			client := &script{parts: [][]byte{[]byte(w.hello), make([]byte, 3*callerBuffer)}}
			s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, c.err }}
			if serve := s.serveConn(t.Context(), client, ""); serve != nil {
				serve()
			}
			got := client.heard.String()
			switch w.protocol {
			case SOCKS5:
				if want := "\x05\x00\x05" + string(rune(c.socks5)) + "\x00\x01\x00\x00\x00\x00\x00\x00"; got != want {
					t.Errorf("%v, %s: %q, want %q", c.err, w.name, got, want)
				}
			case SOCKS4:
				if want := "\x00\x5b\x00\x00\x00\x00\x00\x00"; got != want {
					t.Errorf("%v, %s: %q, want %q", c.err, w.name, got, want)
				}
			default:
				res := readReply(t, []byte(got))
				if res.status != c.http || res.header.Get("X-Evil") != "" {
					t.Errorf("%v, %s: %q, want %d", c.err, w.name, got, c.http)
				}
			}
			if client.closed == 0 || client.unread() > 0 {
				t.Errorf("%v, %s: left open, or closed with unread bytes, which some systems make a reset of", c.err, w.name)
			}
		}
	}
}

func TestAnAnswerArrivesThoughMoreWasSaid(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			r := newRig(t, &Server{Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, refusal(wire.CodeNotAllowed)
			}}, "")
			c := tcpDial(t, r.address)
			io.WriteString(c, w.hello+strings.Repeat("x", 20_000)) // a close with these unread would be a reset
			got, err := io.ReadAll(c)
			if err != nil || len(got) == 0 {
				t.Errorf("%q, %v", got, err)
			}
			c.Close()
			next(t, r.refused)
		})
	}
}

func TestAForwardThatReachesNothingIsAReset(t *testing.T) {
	connected := make(chan struct{})
	r := newRig(t, &Server{Dial: func(context.Context, string, string) (net.Conn, error) {
		<-connected
		return nil, refusal(wire.CodeRefused)
	}}, "db:22")
	c := tcpDial(t, r.address)
	close(connected)
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("saw %v", err)
	}
}

func TestXNetProxyIsServed(t *testing.T) {
	r := newRig(t, &Server{}, "")
	d, err := proxy.SOCKS5("tcp", r.address, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"db.internal:22", "10.1.2.3:443", "[2001:db8::7]:8022"} {
		c, err := d.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		target := next(t, r.targets)
		if target.address != address {
			t.Errorf("dialled %s", target.address)
		}
		io.WriteString(c, "ping")
		expect(t, target, "ping")
		io.WriteString(target, "pong")
		expect(t, c, "pong")
		c.Close()
		target.Close()
		next(t, r.ended)
	}
}

func TestNetHTTPGoesThroughCONNECT(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.Host) }))
	defer web.Close()
	var address string
	r := newRig(t, &Server{Dial: func(ctx context.Context, network, a string) (net.Conn, error) {
		address = a
		var d net.Dialer
		return d.DialContext(ctx, network, web.Listener.Addr().String())
	}}, "")
	transport := web.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.address})
	res, err := (&http.Client{Transport: transport}).Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "hello from example.com" || err != nil || address != "example.com:443" {
		t.Errorf("%q, %v from %s", body, err, address)
	}
	transport.CloseIdleConnections()
	next(t, r.ended)
}

// deaf is a client that has gone when it is answered.
type deaf struct{ *script }

func (deaf) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestATargetIsNotLeftToAClientThatCannotBeTold(t *testing.T) {
	client, target := &script{parts: [][]byte{[]byte(ways[3].hello)}}, &script{}
	s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) { return target, nil }}
	if serve := s.serveConn(t.Context(), deaf{client}, ""); serve != nil {
		serve()
	}
	if client.closed == 0 || target.closed == 0 {
		t.Error("left open")
	}
}

// bomb panics where go-socks5 calls it.
type bomb struct{ *script }

func (bomb) Write([]byte) (int, error) { panic("boom") }

func TestAPanicInGoSOCKS5CostsOneClient(t *testing.T) {
	client := &script{parts: [][]byte{[]byte("\x05\x01\x00")}}
	_, err := readSOCKS5(newCaller(bomb{client}))
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%v", err)
	}
}
