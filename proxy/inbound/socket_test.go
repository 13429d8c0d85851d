//go:build unix

package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// daemon is a Socket that serves, with an echo behind it.
type daemon struct {
	socket Socket
	path   string
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func startDaemon(t *testing.T, guests ...*GuestTrace) *daemon {
	t.Helper()
	d := &daemon{path: filepath.Join(shortDir(t), "sshka", "proxy.sock")}
	echo := func() *simnet.Conn {
		a, b := simnet.Pipe(simnet.Line{})
		d.wg.Go(func() {
			io.Copy(b, b)
			b.Close()
		})
		return a
	}
	d.socket = Socket{
		Version: "1.2.3",
		Relay:   "relay.test:7422",
		Open: func(context.Context) (*Carrier, error) {
			return &Carrier{ReadWriteCloser: echo(), Instance: wire.ID{9}, Window: time.Hour}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			if address == "refused:22" {
				return nil, refusal(wire.CodeRefused)
			}
			return echo(), nil
		},
	}
	for _, g := range guests {
		d.socket.Guests = g
	}
	ln, err := ListenSocket(t.Context(), d.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	d.wg.Go(func() {
		if err := d.socket.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		d.wg.Wait()
	})
	return d
}

// shortDir is a directory whose sockets' names are short enough.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshka")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (d *daemon) client() *Daemon {
	return &Daemon{Path: d.path, Version: "1.2.3", Relay: "relay.test:7422", Target: "db:22"}
}

func TestSocketCarriesCarriersAndSessions(t *testing.T) {
	d := startDaemon(t)
	carrier, err := d.client().Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if carrier.Instance != (wire.ID{9}) || carrier.Window != time.Hour {
		t.Errorf("%+v", carrier)
	}
	conn, err := d.client().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	for name, c := range map[string]io.ReadWriteCloser{"carrier": carrier, "dial": conn} {
		go c.Write(data)
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn.CloseWrite() // half-close goes through
	if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	carrier.Close()
	conn.Close()
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(d.path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestAnotherVersionOrRelayIsNoDaemon(t *testing.T) {
	d := startDaemon(t)
	for _, c := range []*Daemon{
		{Path: d.path, Version: "1.2.4", Relay: "relay.test:7422"},
		{Path: d.path, Version: "1.2.3", Relay: "other.test:7422"},
		{Path: filepath.Join(filepath.Dir(d.path), "none"), Version: "1.2.3", Relay: "relay.test:7422"},
		{},
	} {
		if _, err := c.Open(t.Context()); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestTheDaemonsAnswerIsTheError(t *testing.T) {
	d := startDaemon(t)
	c := d.client()
	c.Target = "refused:22"
	var answer *RequestError
	if _, err := c.Dial(t.Context()); !errors.As(err, &answer) || answer.Message != refusal(wire.CodeRefused).Error() || answer.RefusalCode() != wire.CodeRefused {
		t.Errorf("%v", err)
	}
}

func TestStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(shortDir(t), "proxy.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if _, err := ListenSocket(t.Context(), path); !errors.Is(err, ErrDaemonRuns) {
		t.Errorf("%v", err)
	}
	old.Close() // killed: the file stays
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	ln, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("%v", err)
	}
}

func TestADirectoryForEveryoneIsRefused(t *testing.T) {
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(t.Context(), filepath.Join(dir, "s")); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	ln, err := ListenSocket(t.Context(), filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

// TestADaemonThatHangsCostsASecond: it accepts, and says nothing.
func TestADaemonThatHangsCostsASecond(t *testing.T) {
	path := filepath.Join(shortDir(t), "proxy.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	start := time.Now()
	c := &Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422"}
	if _, err := c.Open(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 5*time.Second { // a second, on any machine
		t.Errorf("took %v", d)
	}
}

func TestHostileClientsOnTheSocket(t *testing.T) {
	d := startDaemon(t)
	for _, line := range []string{"\n", "garbage\n", "{}\n", `{"request":"dance"}` + "\n", strings.Repeat("x", 3*socketLine), "{\"request\":"} {
		c, err := net.Dial("unix", d.path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, line)
		c.(*net.UnixConn).CloseWrite()
		if got, err := io.ReadAll(c); err == nil && !bytes.Contains(got, []byte(`"version":"1.2.3"`)) {
			t.Errorf("%q: %q", line, got)
		}
		c.Close()
	}
}

// FuzzReadLine: a line is read to its end and no further, or refused.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("{\"request\":\"carrier\",\"pid\":1,\"target\":\"a:22\"}\nrest"))
	f.Add([]byte("{}\n\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var req request
		if err := readLine(r, &req); err != nil {
			return
		}
		if end := bytes.IndexByte(b, '\n'); r.Len() != len(b)-end-1 {
			t.Errorf("%q: %d bytes left", b, r.Len())
		}
	})
}

// TestASessionThatWaitsAsksAgain: as long as the daemon has no link it is told so, and
// asks again, until there is one; then whoever gives up waiting is told why.
func TestASessionThatWaitsAsksAgain(t *testing.T) {
	path := filepath.Join(shortDir(t), "proxy.sock")
	var asked atomic.Int64
	s := Socket{
		Version: "1.2.3", Relay: "relay.test:7422", waits: 10 * time.Millisecond,
		Open: func(context.Context) (*Carrier, error) { return nil, errors.New("asked as by a new session") },
		Reopen: func(ctx context.Context) (*Carrier, error) {
			if asked.Add(1) < 4 {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			near, far := simnet.Pipe(simnet.Line{})
			far.Close()
			return &Carrier{ReadWriteCloser: near, Instance: wire.ID{9}, Window: time.Hour}, nil
		},
	}
	ln, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()

	d := &Daemon{Path: path, Version: "1.2.3", Relay: "relay.test:7422", Target: "db:22", Session: "0f3c"}
	c, err := d.Reopen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 4 || c.Instance != (wire.ID{9}) || c.Window != time.Hour {
		t.Errorf("asked %d times, got %+v", n, c)
	}
	c.Close()

	asked.Store(-1 << 60)
	gone := errors.New("ssh is gone")
	life, end := context.WithCancelCause(t.Context())
	go func() {
		for asked.Load() < -1<<60+3 { // has been told to ask again
			time.Sleep(time.Millisecond)
		}
		end(gone)
	}()
	if _, err := d.Reopen(life); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := d.Reopen(t.Context()); !errors.Is(err, ErrNoDaemon) { // and nobody waits for a daemon that is gone
		t.Errorf("%v", err)
	}
}
