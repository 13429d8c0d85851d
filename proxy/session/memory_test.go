package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

func TestAnAccountCountsWhatIsHeldAndGivenBack(t *testing.T) {
	total := NewMemory(100<<20, nil)
	key := NewMemory(25<<20, total)
	m := newMachine(1<<20, key)
	m.write(make([]byte, 200_000))
	if err := m.store(0, make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	if n := key.Used(); n < 250_000 || n > 250_000+2*largeChunk || total.Used() != n {
		t.Errorf("%d bytes held, of all %d", n, total.Used())
	}
	m.next = 200_000
	if err := m.acked(200_000); err != nil {
		t.Fatal(err)
	}
	m.read(make([]byte, 50_000))
	if key.Used() != 0 || total.Used() != 0 {
		t.Errorf("%d and %d bytes of nothing", key.Used(), total.Used())
	}
}

func TestPressureIsTheHighestOfAll(t *testing.T) {
	total := NewMemory(1600, nil)
	key := NewMemory(400, total)
	var none *Memory
	for _, tt := range []struct {
		key, others int
		want        Pressure
	}{
		{0, 0, Calm},
		{199, 0, Calm},
		{200, 0, Tight},
		{300, 0, High},
		{375, 0, Full},
		{1000, 0, Full},
		{0, 799, Calm},
		{0, 800, Tight},
		{250, 1000, High},
		{0, 1500, Full},
	} {
		key.add(tt.key)
		total.add(tt.others)
		if got := key.Pressure(); got != tt.want {
			t.Errorf("%d and %d of others: %v", tt.key, tt.others, got)
		}
		key.add(-tt.key)
		total.add(-tt.others)
	}
	if none.Pressure() != Calm {
		t.Error("no account presses")
	}
}

// TestAWindowFollowsWhatIsRead: a path of 100 Mbit/s and 200 ms, whose sender never
// has more on its way than it was promised.
func TestAWindowFollowsWhatIsRead(t *testing.T) {
	const rate, rtt = 100e6 / 8, 200 * time.Millisecond
	run := func(reads bool) *machine {
		m := newMachine(8<<20, nil)
		now := time.Now()
		type told struct {
			at    time.Time
			limit uint64
		}
		promises := []told{{now, m.promise()}}
		var limit uint64 // as the sender knows it
		var line float64 // bytes that the line may have delivered
		for range 4000 { // of a millisecond
			now = now.Add(time.Millisecond)
			for len(promises) > 0 && now.Sub(promises[0].at) >= rtt {
				limit, promises = promises[0].limit, promises[1:]
			}
			line = min(line+rate/1000, rate/100)
			if n := int(min(line, float64(limit-m.received), wire.MaxData)); n > 0 {
				line -= float64(n)
				if err := m.store(m.received, make([]byte, n)); err != nil {
					t.Fatal(err)
				}
				if reads {
					m.read(make([]byte, n))
				}
			}
			m.grow(now)
			if m.ackUrgent() {
				m.toldReceived, m.toldLimit = m.received, m.promise()
				promises = append(promises, told{now, m.promised})
			}
		}
		return &m
	}
	m := run(true)
	if least := int(rate * rtt.Seconds()); m.window < least {
		t.Errorf("window %d, the path holds %d", m.window, least)
	}
	if least := 0.7 * 4 * rate; float64(m.received) < least {
		t.Errorf("%d bytes in four seconds, want %.0f", m.received, least)
	}
	if m = run(false); m.window != startWindow || m.in.len() > startWindow { // an application that does not read
		t.Errorf("window %d, %d bytes held", m.window, m.in.len())
	}
}

// TestPressureStopsGrowthAndNothingElse: a promise stays, and what is written and
// read goes on.
func TestPressureStopsGrowthAndNothingElse(t *testing.T) {
	account := NewMemory(1<<20, nil)
	m := newMachine(4<<20, account)
	m.window = 4 * MinBuffer // it has grown
	promised := m.promise()
	account.add(900 << 10) // others
	if m.inLimit() != promised {
		t.Errorf("limit %d, promised %d", m.inLimit(), promised)
	}
	if err := m.store(0, make([]byte, promised)); err != nil {
		t.Errorf("what was promised is refused: %v", err)
	}
	m.read(make([]byte, promised))
	if got := m.promise() - m.in.start; got != MinBuffer {
		t.Errorf("%d bytes promised under pressure", got)
	}
	if m.room() != MinBuffer {
		t.Errorf("room for %d", m.room())
	}
	m.detached = true
	if m.room() != 0 {
		t.Errorf("detached, and room for %d", m.room())
	}
	account.add(-900 << 10)
	if m.room() != maxUnsent {
		t.Errorf("calm again, and room for %d", m.room())
	}
}

// TestADetachedSessionHoldsItsTargetUnderPressure, and lets it go on once it is
// attached again.
func TestADetachedSessionHoldsItsTargetUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := NewMemory(1<<20, nil)
		a, b := pipe()
		e := open(t.Context(), t, Config{Memory: account}, a, b) // both ends', here
		account.add(600 << 10)
		a.Close()
		e.wg.Wait()
		var mu sync.Mutex
		written := 0
		go func() {
			for {
				n, err := e.relay.Write(make([]byte, 1000))
				mu.Lock()
				written += n
				mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Hour)
		mu.Lock()
		if written > 0 {
			t.Errorf("%d bytes were taken", written)
		}
		mu.Unlock()
		a, b = pipe()
		e.resume(t.Context(), a, b)
		if _, err := io.ReadFull(e.proxy, make([]byte, 1_000_000)); err != nil {
			t.Error(err)
		}
		for _, s := range []*Session{e.proxy, e.relay} {
			s.Abandon(io.EOF)
			s.Close()
		}
		e.wg.Wait()
		if used := account.Used(); used != 600<<10 {
			t.Errorf("%d bytes of sessions that are no more", used-600<<10)
		}
	})
}
