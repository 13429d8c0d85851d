package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
	"github.com/sshka/sshka-proxy/proxy/relay"
)

// TestALinkTooManyIsCounted: one that the relay has no room for, and one that its key
// has none for.
func TestALinkTooManyIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		limits relay.Limits
		ownKey bool
		want   relay.Limit
	}{
		"of all":    {relay.Limits{Links: 1}, true, relay.LimitLinks},
		"of a key":  {relay.Limits{LinksPerKey: 1}, false, relay.LimitLinksPerKey},
		"of others": {relay.Limits{LinksPerKey: 1}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			simnet.Bubble(t, func(t *testing.T) {
				st := newStreet(t, time.Hour, c.limits, echo)
				first := st.move(t, false, nil)
				time.Sleep(time.Second)
				if n, others := st.hits.of(c.want); n+others != 0 {
					t.Errorf("one link: %d, other limits %d", n, others)
				}
				second := st.move(t, c.ownKey, nil)
				time.Sleep(time.Second)
				n, others := st.hits.of(c.want)
				if others != 0 || (n == 0) != (c.want == "") {
					t.Errorf("%d, other limits %d", n, others)
				}
				first.stop()
				second.stop()
				st.close()
			})
		})
	}
}

// TestADialThatWaitsIsCounted, once.
func TestADialThatWaitsIsCounted(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, dialTime: time.Second, limits: relay.Limits{DialsPerKey: 1}})
		for range 3 {
			h.wg.Go(func() {
				if c, err := h.client.DialContext(t.Context(), "tcp", "10.1.2.3:22"); err != nil {
					t.Error(err)
				} else {
					c.Close()
				}
			})
		}
		time.Sleep(10 * time.Second)
		if n, others := h.hits.of(relay.LimitDialsPerKey); n != 2 || others != 0 {
			t.Errorf("counted %d times, other limits %d", n, others)
		}
		h.close()
	})
}

// TestACarrierThatSaysNothingIsCounted when there are too many.
func TestACarrierThatSaysNothingIsCounted(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		h := build(t, options{window: time.Hour, limits: relay.Limits{SessionsPerLink: 2}})
		for i, want := range []int{0, 0, 1} {
			if _, err := h.client.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n, others := h.hits.of(relay.LimitStreams); n != want || others != 0 {
				t.Errorf("%d carriers: counted %d times, other limits %d", i+1, n, others)
			}
		}
		h.close()
	})
}
