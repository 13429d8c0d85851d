package test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// direction is where bulk flows.
type direction byte

const (
	upload   direction = askUpload   // to the target
	download direction = askDownload // from it
)

func (d direction) String() string {
	if d == upload {
		return "up"
	}
	return "down"
}

// flood is bulk as fast as it goes, over one or more sessions.
type flood struct {
	arrived *atomic.Int64 // bytes, counted where they arrive
	wires   []*wire
	running sync.WaitGroup
}

// startFlood starts bulk in new sessions.
func (st *stage) startFlood(p *peer, d direction, sessions int) (*flood, error) {
	number, count := st.target.transfer()
	fl := &flood{arrived: count}
	for range sessions {
		w, err := st.dial(p, askPort)
		if err == nil {
			fl.wires = append(fl.wires, w)
			_, err = w.Write(ask(byte(d), number))
		}
		if err != nil {
			fl.stop()
			return nil, fmt.Errorf("%s: start a transfer: %w", p.name, err)
		}
	}
	for _, w := range fl.wires {
		fl.running.Go(func() {
			buf := make([]byte, bulkRoom)
			for {
				if d == upload {
					if _, err := w.Write(buf); err != nil {
						return
					}
					continue
				}
				n, err := w.Read(buf)
				count.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	return fl, nil
}

// stop ends the transfer; what is on its way is dropped.
func (fl *flood) stop() {
	for _, w := range fl.wires {
		w.abort()
		w.stop()
	}
	fl.running.Wait()
	for _, w := range fl.wires {
		w.Close()
	}
}

// rate returns how many bytes arrive in a second, watched for so long.
func (fl *flood) rate(watch time.Duration) float64 {
	before, since := fl.arrived.Load(), time.Now()
	time.Sleep(watch)
	return float64(fl.arrived.Load()-before) / time.Since(since).Seconds()
}

// The units of rates: programs on one machine are compared in megabytes, lines in megabits.
const (
	megabyte = 1e6
	megabit  = 1e6 / 8
	gib      = 1 << 30
)

// bulk measures a transfer's rate, and what it costs.
func (st *stage) bulk(round int, p *peer, d direction, sessions int) {
	st.t.Helper()
	warm, watch, unit, per := st.how.warm, st.how.bulk, "MB/s", float64(megabyte)
	if st.line != nil {
		warm, watch, unit, per = st.how.wanWarm, st.how.wanBulk, "Mbit/s", megabit
	}
	fl, err := st.startFlood(p, d, sessions)
	if err != nil {
		st.t.Fatal(err)
	}
	defer fl.stop()
	time.Sleep(warm)
	before, used := fl.arrived.Load(), p.used()
	rate := fl.rate(watch)
	moved := float64(fl.arrived.Load() - before)
	if moved == 0 {
		st.t.Errorf("%s: %s: no bulk arrived", p.name, d)
		return
	}
	what := "one session"
	if sessions > 1 {
		what = fmt.Sprintf("%d sessions", sessions)
	}
	st.note(round, p, measure{Name: fmt.Sprintf("bulk %s, %s", d, what), Unit: unit, digits: 0}, rate/per)
	if st.line == nil && len(p.roots) > 0 {
		st.note(round, p, measure{Name: fmt.Sprintf("processor time, bulk %s, %s", d, what), Unit: "s/GiB", digits: 2},
			(p.used()-used).Seconds()*gib/moved)
	}
}
