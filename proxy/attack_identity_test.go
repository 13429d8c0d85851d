package proxy_test

import (
	"testing"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAttackAnotherKeysSession: with two keys, live and dead, by RESUME and by a
// repeated OPEN (passes; the code may not lose it: nothing else tests it).
func TestAttackAnotherKeysSession(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		st := newStreet(t, time.Hour, relay.Limits{}, echo)
		mine, other := st.move(t, false, nil), st.move(t, true, nil)
		s, err := mine.DialContext(t.Context(), "tcp", "10.1.2.3:22")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, "mine")
		id := s.(interface{ ID() wire.ID }).ID()
		steal := func(when string) {
			for _, m := range []wire.Message{
				&wire.Resume{ID: id, Generation: 9},
				&wire.Open{ID: id, Generation: 10, Target: wire.Target{Host: "10.1.2.3", Port: 22}},
			} {
				c, err := other.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				c.Write(wire.Append(nil, m))
				answer, err := wire.Read(c)
				refused, ok := answer.(*wire.Refused)
				if !ok || refused.Code != wire.CodeNotAllowed {
					t.Errorf("%s, %T: %+v, %v", when, m, answer, err)
				}
				c.Close()
			}
		}
		steal("attached")
		roundTrip(t, s, "still mine")
		s.Close()
		time.Sleep(time.Second)
		steal("ended")
		mine.stop()
		other.stop()
		st.close()
	})
}
