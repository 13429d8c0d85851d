package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// list is an authorized_keys file with the house's key.
type list struct {
	*keyauth.AuthorizedKeys
	t    *testing.T
	path string
	key  string
}

func newList(t *testing.T, options string) *list {
	t.Helper()
	_, private := keys()
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := &list{t: t, path: filepath.Join(dir, "authorized_keys"), key: string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}
	l.AuthorizedKeys = keyauth.NewAuthorizedKeys(l.path, "", nil)
	l.write(options + l.key)
	return l
}

func (l *list) write(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.path+".new", []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(l.path+".new", l.path); err != nil {
		l.t.Fatal(err)
	}
}

// revoked waits for the end of s and tells whether it was because of its key.
func revoked(t *testing.T, s io.Reader) time.Duration {
	t.Helper()
	start := time.Now()
	_, err := io.ReadAll(s)
	reset, ok := errors.AsType[*session.ResetError](err)
	if !ok || reset.Code != wire.CodeRevoked || reset.Message != "the key is no longer authorized" {
		t.Errorf("ended by %v", err)
	}
	return time.Since(start)
}

func (h *house) endedAs(t *testing.T, code wire.Code) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, err := range h.ends {
		if reset, ok := errors.AsType[*session.ResetError](err); ok && reset.Code == code {
			return
		}
	}
	t.Errorf("at the relay ended by %v", h.ends)
}

func TestALineThatIsRemovedEndsItsSessionsAndItsLinkWithinSeconds(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, "")
		h := build(t, options{line: defaults, window: time.Hour, keys: l})
		a, b := h.dial(t), h.dial(t)
		roundTrip(t, a, "before")
		time.Sleep(10 * time.Minute)
		l.write("# " + l.key)
		if d := revoked(t, a); d > 6*time.Second {
			t.Errorf("after %v", d)
		}
		revoked(t, b)
		time.Sleep(5 * time.Second)
		h.endedAs(t, wire.CodeRevoked)
		if n := h.ended.Load(); n != 2 {
			t.Errorf("%d sessions ended at the relay", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := h.client.DialContext(ctx, "tcp", "10.1.2.3:22")
		if denied, ok := errors.AsType[*keyauth.DeniedError](err); !ok || denied.Code != wire.CodeNotAllowed {
			t.Errorf("another session: %v", err)
		}
		h.close()
	})
}

func TestADetachedSessionIsRevokedToo(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, "")
		h := build(t, options{line: defaults, window: 24 * time.Hour, keys: l})
		s := h.dial(t)
		roundTrip(t, s, "before")
		h.down.Store(true)
		h.cut()
		time.Sleep(time.Minute)
		l.write("")
		time.Sleep(10 * time.Second)
		if n := h.ended.Load(); n != 1 {
			t.Errorf("%d sessions ended at the relay", n)
		}
		h.endedAs(t, wire.CodeRevoked)
		h.close()
	})
}

func TestALineThatExpiresEndsItsSessions(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		until := time.Now().Add(30*time.Minute + 17*time.Second).UTC()
		l := newList(t, `expiry-time="`+until.Format("20060102150405")+`Z" `)
		h := build(t, options{line: defaults, window: time.Hour, keys: l})
		s := h.dial(t)
		time.Sleep(time.Until(until) - time.Second)
		roundTrip(t, s, "still here")
		if d := revoked(t, s); d > 5*time.Second {
			t.Errorf("%v after its time", d)
		}
		time.Sleep(5 * time.Second)
		h.close()
	})
}

// TestFromCountsForEveryLinkAndForALinkThatIsUp, and for where it comes from now.
func TestFromCountsForEveryLinkAndForALinkThatIsUp(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, `from="192.0.2.0/24,198.51.100.7" `)
		var from atomic.Value
		from.Store("192.0.2.7:4711")
		h := build(t, options{line: defaults, window: time.Hour, keys: l, from: func() string { return from.Load().(string) }})
		s := h.dial(t)
		move := func(to string) {
			from.Store(to)
			h.cut()
		}
		move("198.51.100.7:4711")
		roundTrip(t, s, "from another address of the list")
		move("203.0.113.1:4711") // by ticket, and not from there
		time.AfterFunc(20*time.Second, func() { from.Store("198.51.100.7:4711") })
		if d := echoed(t, s); d < 19*time.Second {
			t.Errorf("an echo after %v, from where the key may not be used", d)
		}
		// The list now names where it was and not where it is.
		l.write(`from="192.0.2.0/24" ` + l.key)
		if d := revoked(t, s); d > 6*time.Second {
			t.Errorf("after %v", d)
		}
		time.Sleep(5 * time.Second)
		h.close()
	})
}

// TestAFileThatIsMissingForAMomentEndsNobody: editors and programs that manage
// configurations do that.
func TestAFileThatIsMissingForAMomentEndsNobody(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, "")
		h := build(t, options{line: defaults, window: time.Hour, keys: l})
		s := h.dial(t)
		gone := func(d time.Duration) {
			must(t, os.Rename(l.path, l.path+".away"))
			time.Sleep(d)
			must(t, os.Rename(l.path+".away", l.path))
		}
		for range 3 {
			gone(8 * time.Second)
			roundTrip(t, s, "still here")
			time.Sleep(time.Minute)
		}
		// Written in place: empty, then half a line.
		must(t, os.Truncate(l.path, 0))
		time.Sleep(1500 * time.Millisecond)
		must(t, os.WriteFile(l.path, []byte(l.key[:40]), 0o600))
		time.Sleep(1500 * time.Millisecond)
		must(t, os.WriteFile(l.path, []byte(l.key), 0o600))
		time.Sleep(time.Minute)
		roundTrip(t, s, "still here")
		// A link that is lost meanwhile comes back.
		must(t, os.Rename(l.path, l.path+".away"))
		time.Sleep(time.Second)
		h.cut()
		roundTrip(t, s, "by ticket")
		must(t, os.Rename(l.path+".away", l.path))

		must(t, os.Chmod(l.path, 0o666))
		if d := revoked(t, s); d < 8*time.Second || d > 16*time.Second {
			t.Errorf("a file that others may write ended it after %v", d)
		}
		time.Sleep(5 * time.Second)
		h.close()
	})
}

func TestPermitOpenLimitsAKeyAndItsChangeCountsAtOnce(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, `permitopen="10.1.2.3:22",permitopen="10.1.2.4:*" `)
		h := build(t, options{line: defaults, window: time.Hour, keys: l})
		try := func(target string, want bool) {
			t.Helper()
			c, err := h.client.DialContext(t.Context(), "tcp", target)
			switch {
			case (err == nil) != want:
				t.Errorf("%s: %v", target, err)
			case err != nil && !strings.Contains(err.Error(), target+" is not allowed by this relay"):
				t.Errorf("%s: %v", target, err)
			case err == nil:
				c.Close()
			}
		}
		try("10.1.2.3:22", true)
		try("10.1.2.3:23", false)
		try("10.1.2.4:23", true)
		try("10.1.2.5:22", false)
		try("192.0.2.1:22", false) // the relay's own policy
		s := h.dial(t)
		l.write(`permitopen="*:23",permitopen="192.0.2.1:22" ` + l.key)
		try("10.1.2.3:22", false)
		try("10.1.2.5:23", true)
		try("192.0.2.1:22", false) // adds nothing to what the relay allows
		time.Sleep(time.Minute)
		roundTrip(t, s, "opened before")
		s.Close()
		time.Sleep(time.Second)
		h.close()
	})
}

// TestAKeyThatIsRevokedWhileItsTargetIsDialledGetsNothing, not even a session that
// nobody can come back to.
func TestAKeyThatIsRevokedWhileItsTargetIsDialledGetsNothing(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		l := newList(t, "")
		h := build(t, options{line: defaults, window: 24 * time.Hour, keys: l, dialTime: 8 * time.Second})
		time.AfterFunc(time.Second, func() { l.write("") })
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22"); err == nil {
				revoked(t, c)
			}
		}()
		time.Sleep(10 * time.Second)
		if n := h.ended.Load(); n != 1 || h.reached.Load() != 1 {
			t.Errorf("%d sessions ended at the relay, %d targets dialled", n, h.reached.Load())
		}
		<-done
		time.Sleep(5 * time.Second)
		h.close()
	})
}

// overtaken authorizes, and has thought otherwise by the time the link is up.
type overtaken struct{}

func (overtaken) Authorize(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, true
}

func (overtaken) Recheck(ssh.PublicKey, netip.Addr) (keyauth.Grant, bool) {
	return keyauth.Grant{}, false
}

func (overtaken) Version() uint64 { return 1 }

// TestAKeyThatIsRevokedDuringItsHandshakeIsTurnedOutAtOnce, and not when somebody
// next looks.
func TestAKeyThatIsRevokedDuringItsHandshakeIsTurnedOutAtOnce(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: defaults, window: time.Hour, keys: overtaken{}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := h.client.DialContext(ctx, "tcp", "10.1.2.3:22"); err == nil {
			t.Error("a session")
		}
		// Who looks every minute would have turned out the first alone.
		if n := h.ups.Load(); n < 3 {
			t.Errorf("%d links in 20 s", n)
		}
		h.close()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
