package test

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// echoSize is a keystroke as ssh sends it, about.
const echoSize = 64

// trip is an echo: when it was sent, and how long it took there and back.
type trip struct {
	at   time.Time
	took time.Duration
}

// echoes sends one after the other over w until the time is up, with a pause after each.
func echoes(w *wire, lasts, pause time.Duration) (trips []trip, err error) {
	sent, got := make([]byte, echoSize), make([]byte, echoSize)
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		sent[0]++
		at := time.Now()
		if _, err := w.Write(sent); err != nil {
			return nil, fmt.Errorf("echo: %w", err)
		}
		if _, err := io.ReadFull(w, got); err != nil {
			return nil, fmt.Errorf("echo: %w", err)
		}
		trips = append(trips, trip{at, time.Since(at)})
		if got[0] != sent[0] {
			return nil, fmt.Errorf("echo: %d came back for %d", got[0], sent[0])
		}
		time.Sleep(pause)
	}
	return trips, nil
}

// openEcho opens a session for echoes, of which the first is not measured.
func (st *stage) openEcho(p *peer) (*wire, error) {
	w, err := st.dial(p, askPort)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	if _, err = w.Write(ask(askEcho, 0)); err == nil {
		_, err = echoes(w, time.Nanosecond, 0)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return w, nil
}

// percentile returns what so many hundredths of the times are not above.
func percentile(all []time.Duration, hundredths int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)*hundredths/100]
}

// noteTrips keeps the middle and the slow end of echoes.
func (st *stage) noteTrips(round int, p *peer, when string, trips []trip) {
	took := make([]time.Duration, len(trips))
	for i, one := range trips {
		took[i] = one.took
	}
	for _, hundredths := range []int{50, 99} {
		m := measure{Name: fmt.Sprintf("echo %s, p%d", when, hundredths), Unit: "ms", digits: 1}
		if st.line == nil {
			m.digits = 3
		}
		st.note(round, p, m, ms(percentile(took, hundredths)))
	}
}

// idleEcho measures echoes while nothing else happens.
func (st *stage) idleEcho(round int, p *peer) {
	st.t.Helper()
	w, err := st.openEcho(p)
	if err != nil {
		st.t.Fatal(err)
	}
	defer w.Close()
	trips, err := echoes(w, st.how.echo, 0)
	if err != nil {
		st.t.Fatalf("%s: %v", p.name, err)
	}
	st.noteTrips(round, p, "idle", trips)
}

// keystrokes is the pause between the echoes of somebody who types while bulk flows.
const keystrokes = 20 * time.Millisecond

// echoUnder measures echoes in one session while another one moves bulk, and the bulk.
func (st *stage) echoUnder(round int, p *peer, d direction) {
	st.t.Helper()
	warm, watch, pause, unit, per := st.how.warm, st.how.bulk, time.Millisecond, "MB/s", float64(megabyte)
	if st.line != nil {
		warm, watch, pause, unit, per = st.how.wanWarm, st.how.wanBulk, keystrokes, "Mbit/s", megabit
	}
	w, err := st.openEcho(p)
	if err != nil {
		st.t.Fatal(err)
	}
	defer w.Close()
	fl, err := st.startFlood(p, d, 1)
	if err != nil {
		st.t.Fatal(err)
	}
	defer fl.stop()
	// The keystrokes go on from the start: what they meet later depends on what came before.
	if _, err := echoes(w, warm, pause); err != nil {
		st.t.Fatalf("%s: %v", p.name, err)
	}
	before, since := fl.arrived.Load(), time.Now()
	trips, err := echoes(w, watch, pause)
	if err != nil {
		st.t.Fatalf("%s: %v", p.name, err)
	}
	rate := float64(fl.arrived.Load()-before) / time.Since(since).Seconds()
	st.noteTrips(round, p, fmt.Sprintf("under bulk %s", d), trips)
	st.note(round, p, measure{Name: fmt.Sprintf("bulk %s beside echoes", d), Unit: unit, digits: 0}, rate/per)
}
