//go:build unix

package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/status"
)

func (d *daemon) operator() *Operator { return &Operator{Path: d.path, Version: "1.2.3"} }

// until waits for what another goroutine is about to do.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestTheDaemonTellsItsStatus(t *testing.T) {
	d := startDaemon(t)
	big := strings.Repeat("x", 1<<20) // much more than a line
	d.socket.Status = func() *status.Snapshot {
		return &status.Snapshot{Schema: status.Schema, Role: "proxy", Running: true, PID: 42, Relay: big}
	}
	s, err := d.operator().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != 42 || s.Relay != big || s.Schema != 1 {
		t.Errorf("%+v", s)
	}
	if version, relay, err := d.operator().Greet(t.Context()); version != "1.2.3" || relay != "relay.test:7422" || err != nil {
		t.Errorf("%q, %q, %v", version, relay, err)
	}
	var refused *RequestError
	if _, err := d.operator().End(t.Context(), "0123456789", ""); !errors.As(err, &refused) {
		t.Errorf("a daemon ended a session: %v", err)
	}
}

func TestTheDaemonKnowsItsGuests(t *testing.T) {
	told := make(chan string, 10)
	d := startDaemon(t, &GuestTrace{
		Opened:  func(s status.Session) { told <- "opened " + s.ID + " to " + s.Target },
		Resumed: func(s status.Session, pause time.Duration) { told <- fmt.Sprint("resumed ", s.ID, pause > 0) },
		Left:    func(s status.Session) { told <- "left " + s.ID },
	})
	client := d.client()
	client.Session = "0f3c12ab"
	if g := d.socket.Sessions(); len(g) != 0 {
		t.Errorf("%+v", g)
	}
	carrier, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(carrier, "hello")
	io.ReadFull(carrier, make([]byte, 5))
	g := d.socket.Sessions()
	if len(g) != 1 {
		t.Fatalf("%+v", g)
	}
	want := status.Session{
		ID: "0f3c12ab", Target: "db:22", PID: os.Getpid(), State: status.Attached, ToTarget: 5, ToClient: 5, Age: g[0].Age, Since: g[0].Since,
	}
	if g[0] != want {
		t.Errorf("%+v", g[0])
	}
	carrier.Close()
	until(t, "the session is gone", func() bool { return len(d.socket.Sessions()) == 0 })

	// It comes back and waits for a link, then gets one.
	linked := make(chan struct{})
	d.socket.Reopen = func(ctx context.Context) (*Carrier, error) {
		select {
		case <-linked:
			return d.socket.Open(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if carrier, err = client.Reopen(t.Context()); err != nil {
			t.Error(err)
		}
	})
	state := func(want status.State) func() bool {
		return func() bool {
			g := d.socket.Sessions()
			return len(g) == 1 && g[0].State == want
		}
	}
	until(t, "it is detached", state(status.Detached))
	close(linked)
	wg.Wait()
	until(t, "it is attached", state(status.Attached))
	if g := d.socket.Sessions()[0]; g.Pauses != 1 || g.ToTarget != 5 {
		t.Errorf("%+v", g)
	}
	carrier.Close()
	until(t, "the session is gone", func() bool { return len(d.socket.Sessions()) == 0 })
	for _, want := range []string{"opened 0f3c12ab to db:22", "left 0f3c12ab", "resumed 0f3c12abtrue", "left 0f3c12ab"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		default:
			t.Errorf("not told %q", want)
		}
	}
}

// TestGuestsAreForgotten: what processes leave behind is bounded.
func TestGuestsAreForgotten(t *testing.T) {
	var g guests
	for i := range maxSocketConns + 50 {
		_, leave := g.enter(&request{Session: string(rune('a'+i%26)) + time.Duration(i).String()})
		leave()
	}
	if n := len(g.all); n > maxSocketConns {
		t.Errorf("%d are remembered", n)
	}
	_, leave := g.enter(&request{Session: "late"})
	leave()
	for _, v := range g.all {
		v.since = v.since.Add(-2 * guestTime)
	}
	_, leave = g.enter(&request{Session: "new"})
	defer leave()
	if len(g.all) != 1 || len(g.list()) != 1 {
		t.Errorf("%d are remembered", len(g.all))
	}
	if _, leave := g.enter(&request{}); len(g.all) != 1 {
		t.Error("a session without a name is remembered")
	} else {
		leave()
	}
}

// startControl is a relay's socket.
func startControl(t *testing.T, c *Control) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "relay.sock")
	ln, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return path
}

func TestAControlTellsAndEnds(t *testing.T) {
	path := startControl(t, &Control{
		Version: "1.2.3",
		Status:  func() *status.Snapshot { return &status.Snapshot{Role: "relay"} },
		End: func(session, key string) (int, error) {
			switch {
			case session == "0f3c12":
				return 1, nil
			case key == "SHA256:k":
				return 7, nil
			}
			return 0, errors.New("no such session")
		},
	})
	o := &Operator{Path: path, Version: "1.2.3"}
	if s, err := o.Status(t.Context()); err != nil || s.Role != "relay" {
		t.Errorf("%+v, %v", s, err)
	}
	if n, err := o.End(t.Context(), "0f3c12", ""); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := o.End(t.Context(), "", "SHA256:k"); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := o.End(t.Context(), "other", ""); err == nil || err.Error() != "no such session" {
		t.Errorf("%v", err)
	}
	_, _, err := (&Daemon{Path: path, Version: "1.2.3", Target: "db:22"}).ask(t.Context(), request{Request: requestDial, Target: "db:22"})
	if err == nil || err.Error() != `no request called "dial"` {
		t.Errorf("a relay's socket dialled: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestWhatKeepsAnOperatorFromAnAnswer(t *testing.T) {
	dir := shortDir(t)
	// fake greets and then answers what it is asked.
	fake := func(name string, lines ...string) string {
		path := filepath.Join(dir, name)
		ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, lines[0]+"\n")
			var req request
			if readLine(conn, &req) == nil && len(lines) > 1 {
				io.WriteString(conn, lines[1]+"\n")
			}
		})
		t.Cleanup(func() {
			ln.Close()
			wg.Wait()
		})
		return path
	}
	dead := filepath.Join(dir, "dead.sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()

	for _, tt := range []struct{ name, path, want string }{
		{"no path", "", "not running"},
		{"nothing there", filepath.Join(dir, "none.sock"), "not running"},
		{"left behind", dead, "not running"},
		{
			"another version", fake("old.sock", `{"version":"0.9"}`),
			`the running process is version "0.9", this program is 1.2.3: restart it, or ask with its own program`,
		},
		{"a program that does not know", fake("same.sock", `{"version":"1.2.3"}`, `{"error":"no request called \"status\""}`), `no request called "status"`},
		{"half an answer", fake("half.sock", `{"version":"1.2.3"}`, "{}\n{\"schema\":"), "read status: unexpected EOF"},
		{"something else", fake("smtp.sock", "220 mail ESMTP"), "read line: json: cannot unmarshal number"},
	} {
		_, err := (&Operator{Path: tt.path, Version: "1.2.3"}).Status(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if (tt.want == "not running") != errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
