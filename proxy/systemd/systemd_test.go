package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// manager hears what is told.
func manager(t *testing.T) (hear func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("no datagrams over unix sockets here: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestWhatIsTold(t *testing.T) {
	hear := manager(t)
	for _, tt := range []struct {
		tell func()
		want string
	}{
		{func() { Ready("listening on [::]:7422") }, `^READY=1\nSTATUS=listening on \[::\]:7422\n$`},
		{func() { Ready("") }, `^READY=1\n$`},
		{func() { Status("two\nlines\nREADY=1") }, `^STATUS=two lines READY=1\n$`},
		{func() { Stopping("draining") }, `^STOPPING=1\nSTATUS=draining\n$`},
		{func() { Extend(30 * time.Second) }, `^EXTEND_TIMEOUT_USEC=30000000\n$`},
	} {
		tt.tell()
		if got := hear(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("told %q, want %s", got, tt.want)
		}
	}
	Reloading()
	got := hear()
	if !strings.HasPrefix(got, "RELOADING=1\n") || runtime.GOOS == "linux" && !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=\d+\n$`).MatchString(got) {
		t.Errorf("told %q", got)
	}
}

func TestWithoutAManagerNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("LISTEN_FDS", "")
	Ready("to nobody")
	Reloading()
	if err := Watch(t.Context(), func(context.Context) error { panic("asked for nobody") }); err != nil {
		t.Error(err)
	}
	if s, err := Sockets(); len(s) != 0 || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// A program that is stuck must not be heard of.
func TestTheWatchdogHearsOfProofsOnly(t *testing.T) {
	hear := manager(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	stuck := make(chan struct{})
	watching := make(chan error, 1)
	go func() {
		watching <- Watch(ctx, func(ctx context.Context) error {
			asked++
			switch {
			case asked == 2:
				return errors.New("no proof")
			case asked > 3:
				close(stuck)
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
	}()
	for range 2 {
		if got := hear(); got != "WATCHDOG=1\n" {
			t.Errorf("told %q", got)
		}
	}
	<-stuck
	Status("the next thing")
	if got := hear(); got != "STATUS=the next thing\n" {
		t.Errorf("told %q while it was stuck", got)
	}
	cancel()
	if err := <-watching; err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "often")
	if err := Watch(t.Context(), nil); err == nil {
		t.Error("WATCHDOG_USEC=often is taken")
	}
}
