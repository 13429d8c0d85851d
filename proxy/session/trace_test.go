package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/internal/simnet"
)

// TestTheTraceTellsPausesAndWhoseTheyAre: one for each, and none for an end.
func TestTheTraceTellsPausesAndWhoseTheyAre(t *testing.T) {
	simnet.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		told := map[*Session][]string{}
		tell := func(s *Session, what string) {
			mu.Lock()
			defer mu.Unlock()
			told[s] = append(told[s], what)
		}
		cfg := Config{Trace: &Trace{
			Opened: func(s *Session) { tell(s, "opened") },
			Paused: func(s *Session) { tell(s, "paused") },
			Resumed: func(s *Session, pause time.Duration, _ uint64) {
				tell(s, "resumed after "+pause.String())
			},
			Ended: func(s *Session, _ Stats, _ error) { tell(s, "ended") },
		}}
		a, b := pipe()
		e := open(t.Context(), t, cfg, a, b)
		a.Close()
		b.Close()
		e.wg.Wait()
		time.Sleep(time.Minute)
		a, b = pipe()
		e.resume(t.Context(), a, b)
		synctest.Wait()
		e.proxy.CloseWrite()
		e.relay.CloseWrite()
		for _, s := range []*Session{e.proxy, e.relay} {
			if _, err := io.ReadAll(s); err != nil {
				t.Error(err)
			}
			s.Close()
		}
		e.wg.Wait()
		for _, s := range []*Session{e.proxy, e.relay} {
			got := told[s]
			if len(got) != 4 || got[0] != "opened" || got[1] != "paused" || got[2] != "resumed after 1m0s" || got[3] != "ended" {
				t.Errorf("told %q", got)
			}
		}
	})
}
