package inbound

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// otherUID is nobody's on any system that we know: it has no privileges.
const otherUID = 64123

// Variables that make this test binary a client of another user.
const (
	clientOf   = "INBOUND_TEST_CLIENT_OF"   // the address to connect to
	clientFrom = "INBOUND_TEST_CLIENT_FROM" // the address to bind before, or ""
	clientSays = "INBOUND_TEST_CLIENT_SAYS" // if set, what is said before the socket is closed
	daemonAt   = "INBOUND_TEST_DAEMON_AT"   // if set, the child is a daemon there instead
)

func TestMain(m *testing.M) {
	if path := os.Getenv(daemonAt); path != "" {
		if err := beDaemon(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if address := os.Getenv(clientOf); address != "" {
		if err := beClient(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beClient connects, and prints what it hears.
func beClient(address string) error {
	d := net.Dialer{Timeout: patience}
	if from := os.Getenv(clientFrom); from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	c, err := d.Dial(network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	hello := ways[0].hello
	if says := os.Getenv(clientSays); says != "" {
		_, err := io.WriteString(c, hello+says)
		return err
	}
	_, _ = io.WriteString(c, hello)
	var b [64]byte
	n, err := c.Read(b[:])
	fmt.Printf("%q", b[:n])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return nil
}

// beDaemon greets one client, and prints what that says.
func beDaemon(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer ln.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	_ = writeLine(c, greeting{"1.2.3", "relay.test:7422"})
	said, _ := io.ReadAll(c)
	fmt.Printf("%q", said)
	return nil
}

// anotherUser runs a client of r with uid, and returns what it heard.
func anotherUser(t *testing.T, address string, uid uint32, env ...string) string {
	t.Helper()
	return childOf(t, uid, append([]string{clientOf + "=" + address}, env...)...)
}

// childOf runs this test's binary with uid, and returns what it prints.
func childOf(t *testing.T, uid uint32, env ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	// Our own binary is in a directory of ours: the child gets it as a file.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = append([]string{"GORACE=atexit_sleep_ms=0"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return stdout.String()
}

// ownAddress is an address of this machine that is no loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("no address but loopback here")
	return ""
}

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // no IPv6
	}
	return ln
}

func TestAnotherUserIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, listen string
		connect      func(port string) string
		from         func(t *testing.T) string
	}{
		{"ipv4", "127.0.0.1:0", func(p string) string { return "127.0.0.1:" + p }, nil},
		{"ipv6", "[::1]:0", func(p string) string { return "[::1]:" + p }, nil},
		{"ipv4 to a listener of both", "[::]:0", func(p string) string { return "127.0.0.1:" + p }, nil},
		{"from an address that is no loopback", "127.0.0.1:0", func(p string) string { return "127.0.0.1:" + p }, ownAddress},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serveOn(t, &Server{}, listenOn(t, c.listen), "")
			_, port, _ := net.SplitHostPort(r.address)
			env := ""
			if c.from != nil {
				env = clientFrom + "=" + c.from(t)
			}
			if got := anotherUser(t, c.connect(port), otherUID, env); got != `""` {
				t.Errorf("it heard %s", got)
			}
			var other *OtherUserError
			if err := next(t, r.refused); !errors.As(err, &other) || other.UID != otherUID {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnotherUserIsRefusedByAForward(t *testing.T) {
	r := newRig(t, &Server{}, "db:22")
	if got := anotherUser(t, r.address, otherUID); got != `""` {
		t.Errorf("it heard %s", got)
	}
	var other *OtherUserError
	if err := next(t, r.refused); !errors.As(err, &other) {
		t.Errorf("%v", err)
	}
}

// openSocketDir is a directory that everybody may use.
func openSocketDir(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAnotherUserIsRefusedOnTheSocket: also where the file's mode lets him in.
func TestAnotherUserIsRefusedOnTheSocket(t *testing.T) {
	path := filepath.Join(openSocketDir(t), "proxy.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	s := Socket{Version: "1.2.3", Relay: "relay.test:7422"}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	defer func() {
		cancel()
		<-served
	}()
	if got := anotherUser(t, path, otherUID); got != `""` {
		t.Errorf("he heard %s", got)
	}
	if got := anotherUser(t, path, 0); !strings.Contains(got, "1.2.3") {
		t.Errorf("this user heard %s", got)
	}
}

// TestAnotherUsersDaemonIsNotTrusted: one that was first at the socket's place would
// see every session.
func TestAnotherUsersDaemonIsNotTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	path := filepath.Join(openSocketDir(t), "proxy.sock")
	said := make(chan string, 1)
	go func() {
		defer close(said)
		said <- childOf(t, otherUID, daemonAt+"="+path)
	}()
	d := &Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422", Target: "secret.internal:22"}
	for until := time.Now().Add(patience); ; {
		_, err := d.Open(t.Context())
		if errors.Is(err, ErrNoDaemon) && strings.Contains(err.Error(), "another user's") {
			break
		}
		if !errors.Is(err, ErrNoDaemon) || time.Now().After(until) {
			t.Fatalf("%v", err)
		}
		select {
		case _, running := <-said:
			if !running {
				t.FailNow() // it says why
			}
		case <-time.After(time.Millisecond): // it is about to listen
		}
	}
	if got := <-said; got != `""` {
		t.Errorf("it was told %s", got)
	}
}

func TestAnotherUserMayBeAllowed(t *testing.T) {
	r := newRig(t, &Server{AllowOtherUsers: true}, "")
	if got := anotherUser(t, r.address, otherUID); !strings.HasPrefix(got, `"\x05\x00`) {
		t.Errorf("it heard %s", got)
	}
	next(t, r.targets)
}

func TestTheSameUserIsServed(t *testing.T) {
	r := newRig(t, &Server{}, "")
	if got := anotherUser(t, r.address, 0); !strings.HasPrefix(got, `"\x05\x00`) {
		t.Errorf("it heard %s", got)
	}
	next(t, r.targets)
}

// TestNobodyIsTakenForRoot: of a socket that was closed older kernels say that it
// is root's. What was said before the end must not reach a target.
func TestNobodyIsTakenForRoot(t *testing.T) {
	ln := listenOn(t, "127.0.0.1:0")
	if got := anotherUser(t, ln.Addr().String(), otherUID, clientSays+"=do something"); got != "" {
		t.Errorf("it heard %s", got)
	}
	// Its process has ended before we accept.
	r := serveOn(t, &Server{}, ln, "")
	if err := next(t, r.refused); err == nil || !strings.Contains(err.Error(), "whose") {
		t.Errorf("%v", err)
	}
	select {
	case d := <-r.targets:
		t.Errorf("dialled %s", d.address)
	default:
	}
}

// pairOn returns the ends of a connection as the kernel knows them.
func pairOn(t *testing.T, listen string, dial func(port int) (io.Closer, netip.AddrPort)) (client, server netip.AddrPort, conn io.Closer) {
	t.Helper()
	ln := listenOn(t, listen)
	defer ln.Close()
	conn, _ = dial(ln.Addr().(*net.TCPAddr).Port)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); conn.Close() })
	return plainAddr(c.RemoteAddr().(*net.TCPAddr)), plainAddr(c.LocalAddr().(*net.TCPAddr)), conn
}

// mappedSocket connects to 127.0.0.1 from an IPv6 socket.
type mappedSocket int

func (s mappedSocket) Close() error { return unix.Close(int(s)) }

func TestTheKernelKnowsWhoseASocketIs(t *testing.T) {
	netDial := func(format string) func(int) (io.Closer, netip.AddrPort) {
		return func(port int) (io.Closer, netip.AddrPort) {
			return tcpDial(t, fmt.Sprintf(format, port)), netip.AddrPort{}
		}
	}
	for _, c := range []struct {
		name, listen string
		dial         func(int) (io.Closer, netip.AddrPort)
	}{
		{"ipv4", "127.0.0.1:0", netDial("127.0.0.1:%d")},
		{"ipv6", "[::1]:0", netDial("[::1]:%d")},
		{"both", "[::]:0", netDial("127.0.0.1:%d")},
		{"ipv4 from an IPv6 socket", "127.0.0.1:0", func(port int) (io.Closer, netip.AddrPort) {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Skip(err)
			}
			if err := unix.Connect(fd, &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}); err != nil {
				t.Fatal(err)
			}
			return mappedSocket(fd), netip.AddrPort{}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server, conn := pairOn(t, c.listen, c.dial)
			for name, ask := range map[string]func(client, server netip.AddrPort) (*tcpSocket, error){"sock_diag": askKernel, "proc": searchProc} {
				sock, err := ask(client, server)
				if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EPROTONOSUPPORT) {
					t.Logf("%s: not here: %v", name, err)
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if uid, err := sock.owner(client, server); err != nil || uid != uint32(os.Geteuid()) {
					t.Errorf("%s: uid %d, %v", name, uid, err)
				}
			}
			conn.Close()
			if uid, err := peerUID(client, server); err == nil {
				t.Errorf("a closed socket is of uid %d", uid)
			}
		})
	}
}

func TestOnlyALiveSocketHasAnOwner(t *testing.T) {
	client, server := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:1080")
	for _, c := range []struct {
		name string
		sock tcpSocket
		ok   bool
	}{
		{"established", tcpSocket{client, server, tcpEstablished, 7, 1}, true},
		{"half-closed", tcpSocket{client, server, tcpFinWait2, 7, 1}, true},
		{"closed", tcpSocket{client, server, tcpFinWait2, 7, 0}, false},
		{"connecting", tcpSocket{client, server, 2, 7, 1}, false},
		{"time wait", tcpSocket{client, server, 6, 0, 0}, false},
		{"a listener", tcpSocket{client, netip.AddrPort{}, 10, 7, 1}, false},
		{"the other end", tcpSocket{server, client, tcpEstablished, 7, 1}, false},
	} {
		if uid, err := c.sock.owner(client, server); (err == nil) != c.ok || c.ok && uid != 7 {
			t.Errorf("%s: %d, %v", c.name, uid, err)
		}
	}
}

func TestAnErrorIsNoAnswer(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENOSYS, unix.EPERM} {
		b := make([]byte, 36)
		binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
		binary.NativeEndian.PutUint32(b[16:], uint32(-int32(errno)))
		if _, err := parseDiag(b); !errors.Is(err, errno) {
			t.Errorf("%v", err)
		}
	}
}

// FuzzKernelAnswers: neither parser panics, and a line that is written as the
// kernel does is read as it was meant.
func FuzzKernelAnswers(f *testing.F) {
	f.Add([]byte("   0: 0100007F:07E8 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 126 1 0 100 0 0 10 0"), uint32(0x7f000001), uint16(22), uint32(7), uint32(9))
	f.Add(make([]byte, diagAnswerSize), uint32(1), uint16(1), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, raw []byte, ip uint32, port uint16, uid, inode uint32) {
		_, _ = parseDiag(raw)
		_, _ = parseProc(string(raw))
		_, _ = searchTable(bytes.NewReader(raw), netip.AddrPort{}, netip.AddrPort{})

		var a [4]byte
		binary.BigEndian.PutUint32(a[:], ip)
		client := netip.AddrPortFrom(netip.AddrFrom4(a), port)
		word := binary.NativeEndian.Uint32(a[:])
		line := fmt.Sprintf("  1: %08X:%04X 0000000000000000FFFF0000%08X:%04X 01 00000000:00000000 00:00000000 00000000 %5d 0 %d 1", word, port, word, port, uid, inode)
		if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
			return // the mapped prefix above is little-endian's
		}
		sock, err := parseProc(line)
		if err != nil || sock.local != client || sock.remote != client || sock.uid != uid || sock.inode != uint64(inode) || sock.state != 1 {
			t.Errorf("%q: %+v, %v", line, sock, err)
		}
	})
}
