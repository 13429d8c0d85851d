package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// ends are both ends of a session, counted, over a line.
type ends struct {
	proxy, relay *session.Session
	carrier      *simnet.Conn // the proxy's end of the newest
	p, r         *Metrics
	wg           sync.WaitGroup
}

// join opens a session over a first carrier.
func join(t *testing.T, line simnet.Line, p, r *Metrics) *ends {
	t.Helper()
	e := &ends{p: p, r: r}
	pt, rt := p.Proxy(nil), r.Relay(nil)
	e.proxy = session.Open(session.Config{Trace: &pt.Session}, wire.Target{Host: "db", Port: 22})
	e.attach(t, line, func(req *session.Request) *session.Session {
		e.relay = session.Accept(session.Config{Trace: &rt.Session}, req.Open)
		return e.relay
	})
	<-e.proxy.Opened()
	return e
}

// attach gives the session another carrier and returns once bytes flow.
func (e *ends) attach(t *testing.T, line simnet.Line, accept func(*session.Request) *session.Session) {
	t.Helper()
	near, far := simnet.Pipe(line)
	e.carrier = near
	e.wg.Go(func() { e.proxy.Attach(context.Background(), near, wire.ID{}) })
	req, err := session.Receive(far)
	if err != nil {
		t.Fatal(err)
	}
	s := accept(req)
	e.wg.Go(func() { s.Answer(context.Background(), req, wire.Secret{}) })
	synctest.Wait()
}

func (e *ends) close() {
	for _, s := range []*session.Session{e.proxy, e.relay} {
		s.Abandon(errors.New("test over"))
	}
	e.carrier.Close()
	e.wg.Wait()
}

// both checks a number at both ends.
func (e *ends) both(t *testing.T, key string, want float64) {
	t.Helper()
	for _, m := range []*Metrics{e.p, e.r} {
		if got := read(t, m)[key]; got != want {
			t.Errorf("%s: %s is %v, want %v", m.role, key, got, want)
		}
	}
}

// TestBytesCountWhileTheyFlow: a copy that takes a day is seen to move, and its
// end counts nothing twice.
func TestBytesCountWhileTheyFlow(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		e := join(t, simnet.Line{Delay: time.Millisecond}, New(Config{Role: RoleProxy}), New(Config{Role: RoleRelay}))
		e.both(t, "sshka_sessions{state=attached}", 1)
		for i := range 3 {
			e.proxy.Write(make([]byte, 1000))
			io.ReadFull(e.relay, make([]byte, 1000))
			e.relay.Write(make([]byte, 70))
			io.ReadFull(e.proxy, make([]byte, 70))
			time.Sleep(time.Second)
			e.both(t, "sshka_session_bytes_total{direction=to_target}", 1000*float64(i+1))
			e.both(t, "sshka_session_bytes_total{direction=to_client}", 70*float64(i+1))
			e.both(t, "sshka_replay_buffer_bytes", 0)
		}
		e.proxy.Close()
		e.relay.Close()
		<-e.proxy.Done()
		<-e.relay.Done()
		e.both(t, "sshka_session_bytes_total{direction=to_target}", 3000)
		e.both(t, "sshka_session_bytes_total{direction=to_client}", 210)
		e.both(t, "sshka_sessions{state=attached}", 0)
		e.both(t, "sshka_sessions_ended_total{reason=closed}", 1)
		e.close()
		e.both(t, "sshka_sessions_ended_total{reason=carrier_lost}", 0)
		if n := len(e.p.sessions.live) + len(e.r.sessions.live); n != 0 {
			t.Errorf("%d sessions are kept", n)
		}
	})
}

func TestWhatThePeerHasNotStoredIsTheReplayBuffer(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		e := join(t, simnet.Line{Delay: time.Second}, New(Config{Role: RoleProxy}), New(Config{Role: RoleRelay}))
		e.proxy.Write(make([]byte, 5000))
		synctest.Wait()
		if got := read(t, e.p)["sshka_replay_buffer_bytes"]; got != 5000 {
			t.Errorf("%v", got)
		}
		time.Sleep(time.Minute)
		e.both(t, "sshka_replay_buffer_bytes", 0)
		e.close()
	})
}

// TestAResumeIsCounted: how long nothing flowed, and what had to be sent again.
func TestAResumeIsCounted(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		line := simnet.Line{Delay: 100 * time.Millisecond}
		e := join(t, line, New(Config{Role: RoleProxy}), New(Config{Role: RoleRelay}))
		e.proxy.Write(make([]byte, 3000))
		synctest.Wait() // sent, and will not arrive
		e.carrier.Cut()
		synctest.Wait()
		e.both(t, "sshka_sessions{state=attached}", 0)
		e.both(t, "sshka_sessions{state=detached}", 1)
		e.both(t, "sshka_sessions_ended_total{reason=carrier_lost}", 0)
		time.Sleep(20 * time.Minute)
		e.attach(t, line, func(*session.Request) *session.Session { return e.relay })
		io.ReadFull(e.relay, make([]byte, 3000))
		time.Sleep(time.Second)
		e.both(t, "sshka_sessions{state=attached}", 1)
		e.both(t, "sshka_sessions{state=detached}", 0)
		e.both(t, "sshka_sessions_resumed_total", 1)
		e.both(t, "sshka_session_resume_seconds", 1)
		e.both(t, "sshka_session_bytes_total{direction=to_target}", 3000)
		if got := read(t, e.p)["sshka_session_replayed_bytes_total"]; got != 3000 {
			t.Errorf("proxy replayed %v", got)
		}
		if got := read(t, e.r)["sshka_session_replayed_bytes_total"]; got != 0 {
			t.Errorf("relay replayed %v", got)
		}
		for _, m := range []*Metrics{e.p, e.r} {
			text := scrape(t, m)
			for _, want := range []string{`le="300"} 0`, `le="1800"} 1`} {
				if !bytes.Contains([]byte(text), []byte(`sshka_session_resume_seconds_bucket{role="`+string(m.role)+`",`+want)) {
					t.Errorf("%s: no bucket %s", m.role, want)
				}
			}
		}
		e.close()
	})
}

// TestTotalsNeverGoBack while sessions begin, carry and end: a counter that
// shrinks looks like a restart to Prometheus.
func TestTotalsNeverGoBack(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		p, r := New(Config{Role: RoleProxy}), New(Config{Role: RoleRelay})
		stop := make(chan struct{})
		var scrapes sync.WaitGroup
		for _, m := range []*Metrics{p, r} {
			scrapes.Go(func() {
				var last sum
				for {
					now := m.sessions.sum()
					if now.sent < last.sent || now.received < last.received {
						t.Errorf("%s: from %+v to %+v", m.role, last, now)
					}
					last = now
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
		}
		var sessions sync.WaitGroup
		for range 20 {
			e := join(t, simnet.Line{Delay: time.Millisecond}, p, r)
			sessions.Go(func() {
				for range 20 {
					e.proxy.Write(make([]byte, 100))
					io.ReadFull(e.relay, make([]byte, 100))
				}
				e.close()
			})
		}
		sessions.Wait()
		close(stop)
		scrapes.Wait()
		if got := r.sessions.sum(); got.received != 20*20*100 || got.attached+got.detached != 0 {
			t.Errorf("%+v", got)
		}
	})
}
