package session

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// TestAttackASlowReaderGoesOnUnderPressure: its window has grown; memory gets
// short while the promise is used up; then it reads. The sender must hear of the
// room there is, or the session hangs for ever.
func TestAttackASlowReaderGoesOnUnderPressure(t *testing.T) {
	for _, relieved := range []bool{false, true} {
		t.Run(fmt.Sprint("relieved ", relieved), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				account := NewMemory(64<<20, nil)
				a, b := pipe()
				e := open(t.Context(), t, Config{Memory: account}, a, b)
				const warm, total = 8 << 20, 24 << 20
				go func() {
					e.proxy.Write(make([]byte, total))
					e.proxy.CloseWrite()
				}()
				if _, err := io.ReadFull(e.relay, make([]byte, warm)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // the target reads no more: the promise is used up
				stored := e.relay.Stats().Received - warm
				t.Logf("%d bytes wait for the target", stored)
				account.add(50 << 20) // others
				done := make(chan int64, 1)
				go func() {
					n, _ := io.Copy(io.Discard, e.relay)
					done <- n
				}()
				time.Sleep(time.Minute)
				if relieved {
					account.add(-50 << 20)
				}
				select {
				case n := <-done:
					if n != total-warm {
						t.Errorf("%d bytes", n)
					}
				case <-time.After(time.Hour):
					s := e.relay.Stats()
					t.Errorf("relieved %v: stands still for an hour at %d of %d bytes; the reader has taken all that came, pressure %v",
						relieved, s.Received, total, account.Pressure())
				}
				for _, s := range []*Session{e.proxy, e.relay} {
					s.Abandon(io.EOF)
					s.Close()
				}
				e.wg.Wait()
			})
		})
	}
}

// TestAttackPromisesAreBounded: what one key's sessions may still be sent is
// promised while there is no pressure, and fills memory far beyond its limit later.
func TestAttackPromisesAreBounded(t *testing.T) {
	account := NewMemory(16<<20, nil)
	var all []*machine
	for range 64 {
		m := newMachine(DefaultBuffer, account)
		for range 10 { // an application that keeps up
			limit := m.promise()
			for m.received < limit {
				n := min(wire.MaxData, int(limit-m.received))
				if err := m.store(m.received, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				m.read(make([]byte, n))
			}
		}
		m.promise()
		all = append(all, &m)
	}
	for _, m := range all { // and stops
		for m.received < m.promised {
			n := min(wire.MaxData, int(m.promised-m.received))
			if err := m.store(m.received, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if used := account.Used(); used > 2*account.Limit() {
		t.Errorf("%d MiB held, the limit is %d MiB", used>>20, account.Limit()>>20)
	}
}
