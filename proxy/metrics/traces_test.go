package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/session"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

type deltas = map[string]float64

func refused(code wire.Code) error {
	return &session.RefusedError{Refused: wire.Refused{Code: code}}
}

// conn is of a link with that congestion control.
func conn(congestion string) *transport.Conn { return &transport.Conn{Congestion: congestion} }

// TestEveryEventMovesItsNumber and no other one.
func TestEveryEventMovesItsNumber(t *testing.T) {
	open := session.Stats{Opened: true, Sent: 3, Received: 5}
	s := &session.Session{}
	for name, c := range map[string]struct {
		proxy func(t *client.Trace)
		relay func(t *relay.Trace)
		want  deltas
	}{
		"beat":            {proxy: func(t *client.Trace) { t.Link.BeatSent(1) }, want: deltas{"sshka_heartbeats_sent_total": 1}},
		"beat missed":     {proxy: func(t *client.Trace) { t.Link.BeatMissed(1) }, want: deltas{"sshka_heartbeats_missed_total": 1}},
		"beat answered":   {proxy: func(t *client.Trace) { t.Link.BeatAnswered(time.Second) }, want: deltas{"sshka_heartbeat_rtt_seconds": 1}},
		"slowed down":     {proxy: func(t *client.Trace) { t.Link.SlowDown(time.Minute) }, want: deltas{"sshka_heartbeat_interval_seconds": 40}},
		"not slowed":      {proxy: func(t *client.Trace) { t.Link.SlowDown(time.Minute); t.LinkUp(conn("bbr")); t.LinkLost(nil) }, want: deltas{"sshka_link_congestion_control_total{algorithm=bbr}": 1}},
		"link up":         {proxy: func(t *client.Trace) { t.LinkUp(conn("bbr")) }, want: deltas{"sshka_links": 1, "sshka_link_up": 1, "sshka_link_congestion_control_total{algorithm=bbr}": 1}},
		"second link":     {proxy: func(t *client.Trace) { t.LinkUp(conn("")); t.LinkUp(conn("vegas")) }, want: deltas{"sshka_links": 2, "sshka_link_up": 1, "sshka_link_congestion_control_total{algorithm=unknown}": 1, "sshka_link_congestion_control_total{algorithm=other}": 1}},
		"and one is lost": {proxy: func(t *client.Trace) { t.LinkUp(conn("bbr")); t.LinkUp(conn("bbr")); t.LinkLost(nil) }, want: deltas{"sshka_links": 1, "sshka_link_up": 1, "sshka_link_congestion_control_total{algorithm=bbr}": 2}},
		"lost": {
			proxy: func(t *client.Trace) { t.Link.Lost(&link.LostError{Reason: link.Reset}) },
			want:  deltas{"sshka_links_lost_total{reason=reset}": 1},
		},
		"dialled":   {proxy: func(t *client.Trace) { t.Dialled(0, nil) }, want: deltas{"sshka_link_dials_total{result=ok}": 1}},
		"not alive": {proxy: func(t *client.Trace) { t.Dialled(0, io.EOF) }, want: deltas{"sshka_link_dials_total{result=failed}": 1}},
		"no link":   {proxy: func(t *client.Trace) { t.NotStarted(io.EOF) }, want: deltas{"sshka_sessions_opened_total{result=no_link}": 1}},
		"gone before there was a link": {
			proxy: func(t *client.Trace) { t.NotStarted(context.Canceled) },
			want:  deltas{"sshka_sessions_opened_total{result=canceled}": 1},
		},
		"opened": {
			proxy: func(t *client.Trace) { t.Session.Opened(session.Open(session.Config{}, wire.Target{})) },
			want:  deltas{"sshka_sessions_opened_total{result=ok}": 1, "sshka_sessions{state=detached}": 1},
		},
		"ended": {
			proxy: func(t *client.Trace) { t.Session.Opened(s); t.Session.Ended(s, open, nil) },
			want: deltas{
				"sshka_sessions_opened_total{result=ok}": 1, "sshka_sessions_ended_total{reason=closed}": 1,
				"sshka_session_bytes_total{direction=to_target}": 3, "sshka_session_bytes_total{direction=to_client}": 5,
			},
		},
		"refused": {
			proxy: func(t *client.Trace) { t.Session.Ended(s, session.Stats{Sent: 3}, refused(wire.CodeNoSuchHost)) },
			want:  deltas{"sshka_sessions_opened_total{result=no_such_host}": 1},
		},
		"resumed": {
			proxy: func(t *client.Trace) { t.Session.Resumed(s, time.Minute, 17) },
			want:  deltas{"sshka_sessions_resumed_total": 1, "sshka_session_resume_seconds": 1, "sshka_session_replayed_bytes_total": 17},
		},

		"relay: beat":        {relay: func(t *relay.Trace) { t.Link.BeatSent(1) }, want: deltas{"sshka_heartbeats_sent_total": 1}},
		"relay: link up":     {relay: func(t *relay.Trace) { t.LinkUp(conn("bbr")); t.LinkUp(conn("cubic")); t.LinkDown(nil, nil) }, want: deltas{"sshka_links": 1, "sshka_link_congestion_control_total{algorithm=bbr}": 1, "sshka_link_congestion_control_total{algorithm=cubic}": 1}},
		"relay: lost":        {relay: func(t *relay.Trace) { t.Link.Lost(&link.LostError{Reason: "new"}) }, want: deltas{"sshka_links_lost_total{reason=network}": 1}},
		"relay: auth failed": {relay: func(t *relay.Trace) { t.AuthFailed(io.EOF) }, want: deltas{"sshka_auth_failures_total{reason=closed}": 1}},
		"relay: reached":     {relay: func(t *relay.Trace) { t.Opened(nil) }, want: deltas{"sshka_sessions_opened_total{result=ok}": 1}},
		"relay: not reached": {
			relay: func(t *relay.Trace) { t.Opened(&relay.DialError{Code: wire.CodeTimeout, Err: io.EOF}) },
			want:  deltas{"sshka_sessions_opened_total{result=timeout}": 1},
		},
		"relay: no room": {relay: func(t *relay.Trace) { t.Opened(refused(wire.CodeBusy)) }, want: deltas{"sshka_sessions_opened_total{result=busy}": 1}},
		"relay: limit hit": {
			relay: func(t *relay.Trace) { t.LimitHit(relay.LimitMemoryPerKey) },
			want:  deltas{"sshka_limits_hit_total{limit=memory_per_key}": 1},
		},
		"relay: limit of a link hit": {
			relay: func(t *relay.Trace) { t.Link.LimitHit(link.LimitBeatPace) },
			want:  deltas{"sshka_limits_hit_total{limit=beat_pace}": 1},
		},
		"relay: streams": { // told by the relay and by the link
			relay: func(t *relay.Trace) { t.LimitHit(relay.LimitStreams); t.Link.LimitHit(link.LimitStreams) },
			want:  deltas{"sshka_limits_hit_total{limit=streams_per_link}": 2},
		},
		"relay: ended": {
			relay: func(t *relay.Trace) {
				t.Session.Opened(s)
				t.Session.Ended(s, open, &session.ResetError{Code: wire.CodeTargetReset})
			},
			want: deltas{
				"sshka_sessions_ended_total{reason=target_reset}": 1,
				"sshka_session_bytes_total{direction=to_target}":  5, "sshka_session_bytes_total{direction=to_client}": 3,
			},
		},
		"relay: ended before the answer": {
			relay: func(t *relay.Trace) { t.Session.Ended(s, session.Stats{}, io.EOF) },
			want:  deltas{"sshka_sessions_ended_total{reason=carrier_lost}": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{Role: RoleProxy})
			if c.relay != nil {
				m = New(Config{Role: RoleRelay})
			}
			before := read(t, m)
			if c.relay != nil {
				c.relay(m.Relay(nil))
			} else {
				c.proxy(m.Proxy(nil))
			}
			got := deltas{}
			for key, value := range read(t, m) {
				if d := value - before[key]; d != 0 {
					got[key] = d
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("moved %v, want %v", got, c.want)
			}
		})
	}
}

// TestOthersAreToldToo: whatever a Trace already calls is still called, once,
// whether it is a number or not.
func TestOthersAreToldToo(t *testing.T) {
	proxy, relayed := client.Trace{}, relay.Trace{}
	calls := map[string]int{}
	listen(calls, "client", reflect.ValueOf(&proxy).Elem())
	listen(calls, "relay", reflect.ValueOf(&relayed).Elem())
	all := len(calls)
	callAll(reflect.ValueOf(New(Config{Role: RoleProxy}).Proxy(&proxy)).Elem())
	callAll(reflect.ValueOf(New(Config{Role: RoleRelay}).Relay(&relayed)).Elem())
	for name, n := range calls {
		if n != 1 {
			t.Errorf("%s was called %d times", name, n)
		}
	}
	if all < 25 || len(calls) != all {
		t.Errorf("%d functions, %d called", all, len(calls))
	}
	// And a Trace without anybody else.
	callAll(reflect.ValueOf(New(Config{Role: RoleProxy}).Proxy(nil)).Elem())
	callAll(reflect.ValueOf(New(Config{Role: RoleRelay}).Relay(nil)).Elem())
}

// listen sets every function of a Trace to one that counts.
func listen(calls map[string]int, path string, v reflect.Value) {
	for i := range v.NumField() {
		f, name := v.Field(i), path+"."+v.Type().Field(i).Name
		if f.Kind() == reflect.Struct {
			listen(calls, name, f)
			continue
		}
		calls[name] = 0
		f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value {
			calls[name]++
			return nil
		}))
	}
}

// callAll calls every function of a Trace that is set.
func callAll(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Struct {
			callAll(f)
			continue
		}
		if f.IsNil() {
			continue
		}
		args := make([]reflect.Value, f.Type().NumIn())
		for i := range args {
			if in := f.Type().In(i); in.Kind() == reflect.Pointer {
				args[i] = reflect.New(in.Elem())
			} else {
				args[i] = reflect.Zero(in)
			}
		}
		f.Call(args)
	}
}

func TestErrorsFindTheirValue(t *testing.T) {
	wrap := func(err error) error { return &transport.DialError{Relay: "r:1", Err: fmt.Errorf("x: %w", err)} }
	denied := func(code wire.Code) error { return &keyauth.DeniedError{Code: code} }
	lost := &client.LostError{Err: fmt.Errorf("carrier lost: %w", &link.LostError{Reason: link.EOF})}
	dialled := func(code wire.Code, err error) error { return &relay.DialError{Code: code, Err: err} }
	for _, c := range []struct {
		f     func(error) string
		err   error
		value string
	}{
		{dialResult, nil, "ok"},
		{dialResult, wrap(syscall.ECONNREFUSED), "unreachable"},
		{dialResult, wrap(&net.DNSError{Err: "no such host", IsNotFound: true}), "unreachable"},
		{dialResult, wrap(io.ErrUnexpectedEOF), "unreachable"},
		{dialResult, wrap(context.DeadlineExceeded), "timeout"},
		{dialResult, wrap(os.ErrDeadlineExceeded), "timeout"},
		{dialResult, wrap(syscall.ETIMEDOUT), "timeout"},
		{dialResult, wrap(transport.ErrNotRelay), "not_a_relay"},
		{dialResult, &transport.RelayKeyError{}, "relay_key"},
		{dialResult, keyauth.ErrNoKeys, "no_keys"},
		{dialResult, denied(wire.CodeNotAllowed), "denied"},
		{dialResult, wrap(denied(wire.CodeBusy)), "busy"},
		{dialResult, wrap(denied(wire.CodeShuttingDown)), "busy"},
		{dialResult, wrap(denied(wire.CodeVersion)), "version"},
		{dialResult, transport.ErrVersion, "version"},
		{dialResult, wrap(context.Canceled), "canceled"},
		{dialResult, io.EOF, "failed"},

		{openResult, nil, "ok"},
		{openResult, dialled(wire.CodeRefused, syscall.ECONNREFUSED), "refused"},
		{openResult, dialled(wire.CodeNotAllowed, io.EOF), "not_allowed"},
		{openResult, dialled(wire.CodeNoSuchHost, io.EOF), "no_such_host"},
		{openResult, dialled(wire.CodeFailed, errors.Join(io.EOF, context.Canceled)), "canceled"},
		{openResult, refused(wire.CodeShuttingDown), "shutting_down"},
		{openResult, refused(999), "failed"},
		{openResult, &session.ResetError{Code: wire.CodeAborted, Local: true}, "aborted"},
		{openResult, lost, "link_lost"},
		{openResult, &client.LostError{Err: io.ErrUnexpectedEOF}, "carrier_lost"},
		{openResult, context.Canceled, "canceled"},

		{endReason, nil, "closed"},
		{endReason, lost, "link_lost"},
		{endReason, io.ErrUnexpectedEOF, "carrier_lost"},
		{endReason, &session.ResetError{Code: wire.CodeRevoked}, "revoked"},
		{endReason, refused(wire.CodeExpired), "expired"},
		{endReason, &client.LostError{Err: context.Canceled}, "canceled"},

		{authReason, &keyauth.VerifyError{Reason: keyauth.ReasonBadSignature, Err: io.EOF}, "bad_signature"},
		{authReason, transport.ErrVersion, "version"},
		{authReason, fmt.Errorf("tls: %w", wire.Violation("no ALPN")), "protocol"},
		{authReason, fmt.Errorf("tls: %w", os.ErrDeadlineExceeded), "timeout"},
		{authReason, fmt.Errorf("tls: %w", io.EOF), "closed"},
		{authReason, fmt.Errorf("tls: %w", syscall.ECONNRESET), "closed"},
		{authReason, errors.New("tls: first record does not look like a TLS handshake"), "tls"},
	} {
		if got := c.f(c.err); got != c.value {
			t.Errorf("%v: %s, want %s", c.err, got, c.value)
		}
	}
}

// TestEveryCodeHasAValue: what a peer may send is a value that exists.
func TestEveryCodeHasAValue(t *testing.T) {
	for code := range wire.Code(64) {
		switch v := openResult(refused(code)); code {
		case wire.CodeExpired, wire.CodeVersion, wire.CodeTargetReset, wire.CodeEvicted, wire.CodeRevoked, wire.CodeEnded:
			// no answer to an OPEN
		default:
			if !slices.Contains(openResults, v) {
				t.Errorf("open refused with %d: %s has no counter", code, v)
			}
		}
		switch v := endReason(&session.ResetError{Code: code}); code {
		case wire.CodeVersion, wire.CodeNoSuchHost, wire.CodeRefused, wire.CodeUnreachable, wire.CodeTimeout:
			// no end of a session
		default:
			if !slices.Contains(endReasons, v) {
				t.Errorf("reset with %d: %s has no counter", code, v)
			}
		}
	}
}
