package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// testDialer is a relay called r1 that owns 10.1.2.3 and knows names; dialling
// is recorded and succeeds.
type testDialer struct {
	Dialer
	mu      sync.Mutex
	lookups []string // under mu
	dialled []string // under mu
}

func newTestDialer(t *testing.T, allow, deny string, names map[string]string) *testDialer {
	t.Helper()
	d := &testDialer{}
	d.Policy = mustPolicy(t, allow, deny)
	d.Relay = "r1"
	d.Names = []string{"Box.", "box.example.com"}
	d.InterfaceAddrs = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("10.1.2.3"), Mask: net.CIDRMask(8, 32)}}, nil
	}
	d.Listen = func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:7422")} }
	d.LookupNetIP = func(_ context.Context, network, host string) ([]netip.Addr, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lookups = append(d.lookups, network+" "+host)
		list, ok := names[host]
		if !ok {
			return nil, &net.DNSError{Err: "no such host", Name: host, Server: "10.0.0.53:53", IsNotFound: true}
		}
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(list) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		return addrs, nil
	}
	d.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dialled = append(d.dialled, network+" "+address)
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		return a, nil
	}
	return d
}

func TestDialerDialsOnlyAllowedAddressesAndResolvesOnce(t *testing.T) {
	names := map[string]string{
		"db.internal":  "10.9.9.9",
		"db.internal.": "10.9.9.9",
		"rebind":       "127.0.0.1 169.254.169.254 10.9.9.9 10.1.2.3",
		"bad":          "127.0.0.1 ::1 10.1.2.3",
		"mapped":       "::ffff:10.9.9.9",
		"mappedbad":    "::ffff:127.0.0.1",
		"box":          "127.0.1.1",
		"none":         "",
	}
	tests := []struct {
		name, allow, host string
		port              uint16
		lookups, dialled  string // joined by comma
		code              wire.Code
	}{
		{"a name", "*:22", "db.internal", 22, "ip db.internal", "tcp 10.9.9.9:22", 0},
		{"a trailing dot reaches the resolver", "*:22", "db.internal.", 22, "ip db.internal.", "tcp 10.9.9.9:22", 0},
		{"an address", "*:22", "10.9.9.9", 22, "", "tcp 10.9.9.9:22", 0},
		{"a v6 address", "*:22", "2001:db8::9", 22, "", "tcp [2001:db8::9]:22", 0},
		{"a mapped address", "*:22", "::ffff:10.9.9.9", 22, "", "tcp 10.9.9.9:22", 0},
		{"a name that leads home and elsewhere", "*:22", "rebind", 22, "ip rebind", "tcp 10.9.9.9:22", 0},
		{"a name that leads home only", "*:22", "bad", 22, "ip bad", "", wire.CodeNotAllowed},
		{"a mapped answer", "*:22", "mapped", 22, "ip mapped", "tcp 10.9.9.9:22", 0},
		{"a mapped answer that leads home", "*:22", "mappedbad", 22, "ip mappedbad", "", wire.CodeNotAllowed},
		{"the machine's own name", "localhost:22", "BOX", 22, "ip BOX", "", wire.CodeNoSuchHost},
		{"the machine's own name in lower case", "localhost:22", "box", 22, "ip box", "tcp 127.0.1.1:22", 0},
		{"localhost asks nobody", "localhost:22", "LocalHost.", 22, "", "tcp 127.0.0.1:22", 0},
		{"under localhost", "localhost:22", "db.localhost", 22, "", "tcp 127.0.0.1:22", 0},
		{"the relay itself", "localhost:*", "localhost", 7422, "", "", wire.CodeNotAllowed},
		{"no rule for the name", "*.internal:22", "rebind", 22, "", "", wire.CodeNotAllowed},
		{"no rule for the port", "*:22", "db.internal", 80, "", "", wire.CodeNotAllowed},
		{"port 0", "*:*", "db.internal", 0, "", "", wire.CodeNotAllowed},
		{"only the address can tell", "10.9.0.0/16:22", "db.internal", 22, "ip db.internal", "tcp 10.9.9.9:22", 0},
		{"only the address can tell, no", "10.8.0.0/16:22", "db.internal", 22, "ip db.internal", "", wire.CodeNotAllowed},
		{"no such host", "*:22", "missing", 22, "ip missing", "", wire.CodeNoSuchHost},
		{"no addresses", "*:22", "none", 22, "ip none", "", wire.CodeNoSuchHost},
		{"decimal", "*:22 localhost:22", "2130706433", 22, "", "", wire.CodeNotAllowed},
		{"hexadecimal", "*:22 localhost:22", "0x7f.1", 22, "", "", wire.CodeNotAllowed},
		{"octal", "*:22 localhost:22", "0177.0.0.1", 22, "", "", wire.CodeNotAllowed},
		{"short", "*:22 localhost:22", "127.1", 22, "", "", wire.CodeNotAllowed},
		{"a zone", "*:22 [fe80::/10]:22", "fe80::1%eth0", 22, "", "", wire.CodeNotAllowed},
		{"unspecified", "*:22 localhost:22", "0.0.0.0", 22, "", "", wire.CodeNotAllowed},
		{"unspecified v6", "*:22 localhost:22", "::", 22, "", "", wire.CodeNotAllowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newTestDialer(t, tt.allow, "", names)
			_, err := d.Dial(t.Context(), wire.Target{Host: tt.host, Port: tt.port})
			if got := codeOf(t, err); got != tt.code {
				t.Errorf("got %v (%v), want %v", got, err, tt.code)
			}
			if got := strings.Join(d.lookups, ","); got != tt.lookups {
				t.Errorf("resolved %q, want %q", got, tt.lookups)
			}
			if got := strings.Join(d.dialled, ","); got != tt.dialled {
				t.Errorf("dialled %q, want %q", got, tt.dialled)
			}
		})
	}
}

// TestANameIsNotLookedUpTwice: one that means a harmless address when it is judged,
// and loopback from then on.
func TestANameIsNotLookedUpTwice(t *testing.T) {
	d := newTestDialer(t, "*:22", "", nil)
	lookups := 0
	d.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		if lookups++; lookups > 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("10.9.9.10")}, nil
	}
	dialled := d.DialContext
	d.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialled(ctx, network, address)
		if err == nil && address == "10.9.9.9:22" {
			c.Close()
			return nil, refusedErrnos[0] // so that there is reason to try again
		}
		return c, err
	}
	c, err := d.Dial(t.Context(), wire.Target{Host: "rebind.example", Port: 22})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := strings.Join(d.dialled, ","); got != "tcp 10.9.9.9:22,tcp 10.9.9.10:22" || lookups != 1 {
		t.Errorf("dialled %s after %d look-ups", got, lookups)
	}
}

// codeOf returns 0 for no error.
func codeOf(t *testing.T, err error) wire.Code {
	t.Helper()
	if err == nil {
		return 0
	}
	var de *DialError
	if !errors.As(err, &de) {
		t.Fatalf("%v is %T, not a *DialError", err, err)
	}
	return de.Code
}

func TestDialerNeedsToKnowItsOwnAddresses(t *testing.T) {
	d := newTestDialer(t, "*:22", "", map[string]string{"a": "10.9.9.9"})
	d.InterfaceAddrs = func() ([]net.Addr, error) { return nil, errors.New("netlink is gone") }
	_, err := d.Dial(t.Context(), wire.Target{Host: "a", Port: 22})
	if codeOf(t, err) != wire.CodeFailed || len(d.dialled) != 0 {
		t.Errorf("got %v, dialled %q", err, d.dialled)
	}
}

func TestDialerLooksAtItsAddressesEveryTime(t *testing.T) {
	d := newTestDialer(t, "*:22", "", nil)
	target := wire.Target{Host: "10.7.7.7", Port: 22}
	if _, err := d.Dial(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	d.InterfaceAddrs = func() ([]net.Addr, error) {
		return []net.Addr{&net.UnixAddr{Name: "/ignored"}, &net.IPAddr{IP: net.ParseIP("10.7.7.7")}}, nil
	}
	if _, err := d.Dial(t.Context(), target); codeOf(t, err) != wire.CodeNotAllowed {
		t.Errorf("an address that became the relay's own: got %v", err)
	}
}

func TestDialErrorsTellThePeerTheTruthAndNoMore(t *testing.T) {
	op := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.ParseIP("10.66.66.66"), Port: 22}, Err: os.NewSyscallError("connect", err)}
	}
	dns := func(e net.DNSError) error {
		e.Name, e.Server = "db.internal", "10.66.66.66:53"
		return lookupError{&e}
	}
	tests := []struct {
		err  error
		code wire.Code
		want string
	}{
		{op(refusedErrnos[0]), wire.CodeRefused, "db.internal:22 refused the connection"},
		{op(unreachableErrnos[0]), wire.CodeUnreachable, "no route to db.internal:22"},
		{op(unreachableErrnos[1]), wire.CodeUnreachable, "no route to db.internal:22"},
		{op(unreachableErrnos[2]), wire.CodeUnreachable, "no route to db.internal:22"},
		{op(os.ErrPermission), wire.CodeUnreachable, "no route to db.internal:22"},
		{op(timeoutErrnos[0]), wire.CodeTimeout, "db.internal:22 did not answer within 10s"},
		{op(exhaustedErrnos[0]), wire.CodeBusy, "the relay has no room for a connection to db.internal:22"},
		{context.DeadlineExceeded, wire.CodeTimeout, "db.internal:22 did not answer within 10s"},
		{context.Canceled, wire.CodeFailed, "the connection to db.internal:22 was given up"},
		{errors.New("a surprise at 10.66.66.66"), wire.CodeFailed, "the relay failed to connect to db.internal:22"},
		{fmt.Errorf("%w: [10.66.66.66]", errNotAllowed), wire.CodeNotAllowed, "db.internal:22 is not allowed by relay r1"},
		{dns(net.DNSError{Err: "no such host", IsNotFound: true}), wire.CodeNoSuchHost, "no such host db.internal"},
		{dns(net.DNSError{Err: "read udp 10.66.66.66", IsTimeout: true}), wire.CodeTimeout, "the relay's name server did not answer for db.internal"},
		{dns(net.DNSError{Err: "server misbehaving", IsTemporary: true}), wire.CodeFailed, "the relay's name server failed to look up db.internal"},
		{errors.Join(op(unreachableErrnos[0]), op(refusedErrnos[0])), wire.CodeRefused, "db.internal:22 refused the connection"},
		{errors.Join(op(unreachableErrnos[0]), op(timeoutErrnos[0])), wire.CodeTimeout, "db.internal:22 did not answer within 10s"},
		{errors.Join(op(unreachableErrnos[0]), &net.OpError{Op: "dial", Err: timeoutError{}}), wire.CodeTimeout, "db.internal:22 did not answer within 10s"},
		{errors.Join(op(refusedErrnos[0]), context.DeadlineExceeded), wire.CodeRefused, "db.internal:22 refused the connection"},
	}
	d := &Dialer{Relay: "r1"}
	for _, tt := range tests {
		e := d.dialError(wire.Target{Host: "db.internal", Port: 22}, tt.err)
		if e.Code != tt.code || e.Message() != tt.want {
			t.Errorf("%v:\n got %v, %q\nwant %v, %q", tt.err, e.Code, e.Message(), tt.code, tt.want)
		}
		if strings.Contains(e.Message(), "10.66.66.66") {
			t.Errorf("%v: the message tells an address: %s", tt.err, e.Message())
		}
		if !errors.Is(e, tt.err) {
			t.Errorf("%v is lost in %v", tt.err, e)
		}
		var ne net.Error
		if !errors.As(e, &ne) || ne.Timeout() != (tt.code == wire.CodeTimeout) {
			t.Errorf("%v: as a net.Error its Timeout is wrong", tt.err)
		}
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestDialMessagesFitTheWire(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:61]}, ".")
	for _, tt := range []struct{ host, relay, start, end string }{
		{"db", "", "db:22", "by this relay"},
		{long, "r1", "aaa", "by relay r1"},
		{"db", strings.Repeat("ü", 200), "db:22", "..."},
		{"2130706433", "", `"2130706433" is not a valid host name`, "ends in a number"},
		{strings.Repeat("\x1b[2J", 60), "", `"\x1b[2J`, "a label of 240 bytes, at most 63"},
		{strings.Repeat("ü", 127), "", `"\u00fc`, "254 bytes, at most 253"},
	} {
		d := &Dialer{Relay: tt.relay}
		_, err := d.Dial(t.Context(), wire.Target{Host: tt.host, Port: 22})
		var de *DialError
		if !errors.As(err, &de) {
			t.Fatal(err)
		}
		m := de.Message()
		if len(m) > wire.MaxText || !strings.HasPrefix(m, tt.start) || !strings.HasSuffix(m, tt.end) {
			t.Errorf("%d bytes: %q\nwant %q … %q", len(m), m, tt.start, tt.end)
		}
		if strings.ContainsFunc(m, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
			t.Errorf("not printable: %q", m)
		}
	}
}

func TestDialerReachesRealTargets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	d := &Dialer{Policy: mustPolicy(t, "localhost:*", ""), Keepalive: 20 * time.Second}

	conn, err := d.Dial(t.Context(), wire.Target{Host: "localhost", Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := io.WriteString(peer, "SSH-2.0"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 7)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "SSH-2.0" {
		t.Errorf("got %q, %v", buf, err)
	}

	ln.Close()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		_, err = d.Dial(t.Context(), wire.Target{Host: host, Port: port})
		if codeOf(t, err) != wire.CodeRefused {
			t.Errorf("%s: got %v, want refused", host, err)
		}
	}
}

func TestTheSocketIsJudgedOnceMore(t *testing.T) {
	d := &Dialer{Policy: mustPolicy(t, "*:22", ""), InterfaceAddrs: func() ([]net.Addr, error) { return nil, nil }}
	host := requested{name: "db.internal"}
	asked := netip.MustParseAddrPort("10.9.9.9:22")
	control := d.netDialer(host, asked, &self{}).Control
	for address, want := range map[string]bool{
		"10.9.9.9:22":          true,
		"[::ffff:10.9.9.9]:22": true,
		"10.9.9.9:23":          false,
		"10.9.9.8:22":          false,
		"127.0.0.1:22":         false,
		"db.internal:22":       false,
	} {
		if err := control("tcp4", address, nil); (err == nil) != want || err != nil && !errors.Is(err, errNotAllowed) {
			t.Errorf("%s: got %v", address, err)
		}
	}
	d.Policy = mustPolicy(t, "", "")
	if err := control("tcp4", "10.9.9.9:22", nil); !errors.Is(err, errNotAllowed) {
		t.Errorf("policy is not asked again: %v", err)
	}
	// And what Control refuses is not connected to.
	home := netip.MustParseAddrPort("127.0.0.1:22")
	_, err := d.netDialer(host, home, &self{}).DialContext(t.Context(), "tcp", home.String())
	if dialCode(err) != wire.CodeNotAllowed {
		t.Errorf("dialling what is not allowed: %v", err)
	}
}

func TestTargetsAreProbedByTheKernel(t *testing.T) {
	a := netip.MustParseAddrPort("10.9.9.9:22")
	on := (&Dialer{Keepalive: 20 * time.Second}).netDialer(requested{}, a, &self{})
	if want := (net.KeepAliveConfig{Enable: true, Idle: 20 * time.Second, Interval: 20 * time.Second, Count: 3}); on.KeepAliveConfig != want {
		t.Errorf("got %+v, want %+v", on.KeepAliveConfig, want)
	}
	for _, d := range []time.Duration{0, -1} {
		off := (&Dialer{Keepalive: d}).netDialer(requested{}, a, &self{})
		if off.KeepAlive >= 0 || off.KeepAliveConfig.Enable {
			t.Errorf("keepalive %v is not off: %v %+v", d, off.KeepAlive, off.KeepAliveConfig)
		}
	}
}

func TestABlackHoleEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDialer(t, "*:22", "", map[string]string{"hole": "10.9.9.9 2001:db8::9 10.9.9.8"})
		d.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		start := time.Now()
		_, err := d.Dial(t.Context(), wire.Target{Host: "hole", Port: 22})
		if codeOf(t, err) != wire.CodeTimeout || time.Since(start) != DefaultDialTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}

		d.Timeout = 3 * time.Second
		d.LookupNetIP = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, &net.DNSError{Err: ctx.Err().Error(), UnwrapErr: ctx.Err(), IsTimeout: true}
		}
		start = time.Now()
		_, err = d.Dial(t.Context(), wire.Target{Host: "hole", Port: 22})
		if codeOf(t, err) != wire.CodeTimeout || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start = time.Now()
		_, err = d.Dial(ctx, wire.Target{Host: "10.9.9.9", Port: 22})
		if codeOf(t, err) != wire.CodeFailed || time.Since(start) != time.Second || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled, after %v: %v", time.Since(start), err)
		}
	})
}

func TestAddressesAreTriedInTurn(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: refusedErrnos[0]}
	tests := []struct {
		name string
		// what each address does: "hang", "refuse" or the time after which it answers
		addrs  []string
		winner int // -1: none
		after  time.Duration
		starts []time.Duration
	}{
		{"first answers", []string{"100ms", "0s"}, 0, 100 * time.Millisecond, []time.Duration{0}},
		{"first hangs", []string{"hang", "100ms"}, 1, 350 * time.Millisecond, []time.Duration{0, 250 * time.Millisecond}},
		{"first is slow and still wins", []string{"300ms", "100ms"}, 0, 300 * time.Millisecond, []time.Duration{0, 250 * time.Millisecond}},
		{"first refuses", []string{"refuse", "100ms"}, 1, 100 * time.Millisecond, []time.Duration{0, 0}},
		{
			"two hang",
			[]string{"hang", "hang", "100ms", "0s"},
			2, 600 * time.Millisecond,
			[]time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond},
		},
		{"all refuse", []string{"refuse", "refuse", "refuse"}, -1, 0, []time.Duration{0, 0, 0}},
		{"last is slow", []string{"refuse", "2s"}, 1, 2 * time.Second, []time.Duration{0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var addrs []netip.AddrPort
				for i := range tt.addrs {
					addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 22))
				}
				begin := time.Now()
				var mu sync.Mutex
				starts := make([]time.Duration, 0, len(addrs)) // under mu
				conns := make([]*countedConn, len(addrs))
				conn, err := race(t.Context(), addrs, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					mu.Lock()
					starts = append(starts, time.Since(begin))
					mu.Unlock()
					i := int(a.Addr().As4()[3])
					switch does := tt.addrs[i]; does {
					case "hang":
						<-ctx.Done()
						return nil, ctx.Err()
					case "refuse":
						return nil, refused
					default:
						d, err := time.ParseDuration(does)
						if err != nil {
							return nil, err
						}
						time.Sleep(d) // deaf to ctx: a connection that comes too late must be closed
						conns[i] = &countedConn{}
						return conns[i], nil
					}
				})
				if tt.winner < 0 {
					if !errors.Is(err, refusedErrnos[0]) {
						t.Errorf("got %v", err)
					}
				} else if err != nil || conn != conns[tt.winner] {
					t.Errorf("got %v, %v", conn, err)
				}
				for i, c := range conns {
					if c != nil && (c.closed.Load() == 0) != (i == tt.winner) {
						t.Errorf("connection %d closed %d times", i, c.closed.Load())
					}
				}
				// A loser that is deaf to ctx holds race up to its own end.
				if got := time.Since(begin); got < tt.after || got > tt.after+50*time.Millisecond {
					t.Errorf("took %v, want %v", got, tt.after)
				}
				if len(starts) != len(tt.starts) {
					t.Fatalf("started at %v, want %v", starts, tt.starts)
				}
				for i, want := range tt.starts {
					if starts[i] != want {
						t.Errorf("started at %v, want %v", starts, tt.starts)
					}
				}
			})
		})
	}
}

type countedConn struct {
	net.Conn
	closed atomic.Int32
}

func (c *countedConn) Close() error {
	c.closed.Add(1)
	return nil
}

func TestFamiliesAlternateAndAddressesAreBounded(t *testing.T) {
	var in []netip.AddrPort
	for _, s := range []string{"[2001:db8::1]:22", "[2001:db8::2]:22", "[2001:db8::3]:22", "10.0.0.1:22", "10.0.0.2:22"} {
		in = append(in, netip.MustParseAddrPort(s))
	}
	want := "[[2001:db8::1]:22 10.0.0.1:22 [2001:db8::2]:22 10.0.0.2:22 [2001:db8::3]:22]"
	if got := fmt.Sprint(interleave(in)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("10.5.0.%d", i))
	}
	d := newTestDialer(t, "*:22", "", map[string]string{"many": strings.Join(many, " ")})
	var tried atomic.Int32
	d.DialContext = func(context.Context, string, string) (net.Conn, error) {
		tried.Add(1)
		return nil, &net.OpError{Op: "dial", Err: refusedErrnos[0]}
	}
	_, err := d.Dial(t.Context(), wire.Target{Host: "many", Port: 22})
	if codeOf(t, err) != wire.CodeRefused || tried.Load() != maxTargetAddrs {
		t.Errorf("tried %d addresses: %v", tried.Load(), err)
	}
}
