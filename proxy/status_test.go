package proxy_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/status"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// seconds is d as a number of whole seconds.
func seconds(d status.Seconds) int { return int(time.Duration(d) / time.Second) }

// oneSession returns the one session of a snapshot.
func oneSession(t *testing.T, s *status.Snapshot) status.Session {
	t.Helper()
	if len(s.Sessions) != 1 {
		t.Fatalf("%s knows %d sessions, want 1", s.Role, len(s.Sessions))
	}
	return s.Sessions[0]
}

func TestStatusTellsOfAnIdleLink(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{line: simnet.Line{Delay: 50 * time.Millisecond}, heartbeat: heartbeat.Policy{Interval: 20 * time.Second}})
		h.dial(t).Close()
		time.Sleep(10*time.Minute + 5*time.Second)
		synctest.Wait()
		for _, s := range []*status.Snapshot{h.client.Snapshot(), h.relay.Snapshot()} {
			if len(s.Links) != 1 || len(s.Sessions) != 0 || s.LastLost != nil || s.DialError != nil || s.Dialling || !s.Running {
				t.Fatalf("%+v", s)
			}
			l := s.Links[0]
			if seconds(l.Age) != 605 || l.Missed != 0 || l.Row != 0 || seconds(l.Interval) != 20 {
				t.Errorf("%s: %+v", s.Role, l)
			}
			if l.Sent == 0 || l.Received == 0 || l.Address == "" {
				t.Errorf("%s: %+v", s.Role, l)
			}
			if l.Beats > 0 && (time.Duration(l.RTT).Round(time.Millisecond) != 100*time.Millisecond || seconds(l.LastByte) > 20) {
				t.Errorf("%s: %+v", s.Role, l)
			}
		}
		p, r := h.client.Snapshot(), h.relay.Snapshot()
		if n := p.Links[0].Beats + r.Links[0].Beats; n < 30 || n > 36 {
			t.Errorf("%d beats in ten minutes of 20 s", n)
		}
		if p.Relay != "relay.test:7422" || p.Role != "proxy" {
			t.Errorf("%+v", p)
		}
		if !strings.HasPrefix(r.Links[0].Key, "SHA256:") || r.Role != "relay" {
			t.Errorf("%+v", r)
		}
		h.close()
	})
}

func TestStatusTellsOfASessionFromItsOpeningToItsEnd(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, heartbeat: heartbeat.Policy{Interval: 20 * time.Second, Timeout: 5 * time.Second, CountMax: 3}})
		c := h.dial(t)
		roundTrip(t, c, "hello")
		time.Sleep(time.Minute)
		for _, s := range []*status.Snapshot{h.client.Snapshot(), h.relay.Snapshot()} {
			v := oneSession(t, s)
			want := status.Session{
				ID: c.ID().String(), Target: "10.1.2.3:22", Key: v.Key, Age: v.Age, State: status.Attached, Since: v.Since, ToTarget: 5, ToClient: 5,
			}
			if v != want || seconds(v.Age) != 60 || seconds(v.Since) != 60 {
				t.Errorf("%s: %+v", s.Role, v)
			}
			if (v.Key == "") != (s.Role == "proxy") {
				t.Errorf("%s: the key is %q", s.Role, v.Key)
			}
		}

		h.down.Store(true)
		h.cut()
		time.Sleep(time.Second)
		io.WriteString(c, "waits")
		time.Sleep(29 * time.Second)
		p, r := h.client.Snapshot(), h.relay.Snapshot()
		for _, s := range []*status.Snapshot{p, r} {
			if v := oneSession(t, s); v.State != status.Detached || seconds(v.Since) != 30 || seconds(v.Age) != 90 {
				t.Errorf("%s: %+v", s.Role, v)
			}
			if len(s.Links) != 0 || s.LastLost == nil || s.LastLost.Reason != "reset" || seconds(s.LastLost.Ago) != 30 || s.LastLost.Address == "" {
				t.Errorf("%s: %+v, %+v", s.Role, s, s.LastLost)
			}
		}
		if v := oneSession(t, p); v.Replay != 5 || v.ToTarget != 10 {
			t.Errorf("%+v", v)
		}
		if !p.Dialling || p.DialError == nil || seconds(p.DialError.Ago) > 1 || p.DialError.Text != "reach relay relay.test:7422: connection refused" {
			t.Errorf("%+v, %+v", p, p.DialError)
		}

		h.down.Store(false)
		time.Sleep(10 * time.Second)
		for _, s := range []*status.Snapshot{h.client.Snapshot(), h.relay.Snapshot()} {
			if v := oneSession(t, s); v.State != status.Attached || seconds(v.Since) > 10 || v.Pauses != 1 || v.Replay != 0 || v.ToTarget != 10 {
				t.Errorf("%s: %+v", s.Role, v)
			}
			if len(s.Links) != 1 || s.Dialling || s.DialError != nil || s.LastLost == nil {
				t.Errorf("%s: %+v", s.Role, s)
			}
		}
		io.ReadFull(c, make([]byte, 5))
		c.Close()
		<-c.Done()
		synctest.Wait()
		time.Sleep(time.Second)
		if n := len(h.client.Snapshot().Sessions) + len(h.relay.Snapshot().Sessions); n != 0 {
			t.Errorf("%d sessions are told of after the end", n)
		}
		h.close()
	})
}

// TestStatusTellsOfMissesWhileTheyLast: nothing comes through for a while.
func TestStatusTellsOfMissesWhileTheyLast(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{
			line:      simnet.Line{NAT: simnet.NAT{Idle: 10 * time.Second}}, // forgets, and tells nobody
			heartbeat: heartbeat.Policy{Interval: 20 * time.Second, Timeout: 5 * time.Second, CountMax: heartbeat.Off},
		})
		c := h.dial(t)
		h.down.Store(true) // no other link
		time.Sleep(32 * time.Second)
		l := h.client.Snapshot().Links
		if len(l) != 1 || l[0].Missed != 2 || l[0].Row != 2 || l[0].RTT != 0 || seconds(l[0].LastByte) < 30 {
			t.Errorf("%+v", l)
		}
		c.Abort(errors.New("enough"))
		h.close()
	})
}

func TestAnOperatorEndsOneSession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{})
		one, other := h.dial(t), h.dial(t)
		for id, want := range map[string]error{
			"":                            relay.ErrPrefix,
			one.ID().String()[:5]:         relay.ErrPrefix,
			"not hex":                     relay.ErrPrefix,
			one.ID().String() + "0":       relay.ErrPrefix,
			wire.ID{1, 2, 3}.String()[:8]: relay.ErrNoSession,
		} {
			if err := h.relay.EndSession(id); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", id, err, want)
			}
		}
		if err := h.relay.EndSession(strings.ToUpper(one.ID().String()[:relay.MinPrefix])); err != nil {
			t.Error(err)
		}
		_, err := io.ReadAll(one)
		var reset *session.ResetError
		if !errors.As(err, &reset) || reset.Code != wire.CodeEnded || reset.Local || err.Error() != "session reset: ended by an operator" {
			t.Errorf("%v", err)
		}
		if err := h.relay.EndSession(one.ID().String()); !errors.Is(err, relay.ErrNoSession) {
			t.Errorf("ended twice: %v", err)
		}
		roundTrip(t, other, "still here")
		other.Close()
		h.close()
	})
}

// TestAnOperatorEndsASessionThatIsAway: it hears of it when it is back.
func TestAnOperatorEndsASessionThatIsAway(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour})
		c := h.dial(t)
		roundTrip(t, c, "hello")
		key := h.relay.Snapshot().Links[0].Key
		h.down.Store(true)
		h.cut()
		time.Sleep(time.Minute)
		if n := h.relay.EndKey("SHA256:another"); n != 0 {
			t.Errorf("%d sessions of another key were ended", n)
		}
		if n := h.relay.EndKey(key); n != 1 {
			t.Errorf("%d sessions were ended, want 1", n)
		}
		time.Sleep(time.Minute)
		if v := oneSession(t, h.relay.Snapshot()); v.State != status.Ending || seconds(v.Since) != 60 {
			t.Errorf("%+v", v)
		}
		if n := h.relay.EndKey(key); n != 0 {
			t.Errorf("%d sessions were ended again", n)
		}
		h.down.Store(false)
		_, err := io.ReadAll(c)
		var reset *session.ResetError
		if !errors.As(err, &reset) || reset.Code != wire.CodeEnded {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		if s := h.relay.Snapshot().Sessions; len(s) != 0 {
			t.Errorf("%+v", s)
		}
		h.close()
	})
}
