package test

import (
	"fmt"
	"strings"
	"time"
)

// near compares peers on one machine: what they cost.
func (c *comparison) near(s *scenario) {
	st := c.newStage(s)
	st.inspectLine(s)
	st.start(startSshkaAll, startSSHForward, startFrp, startChisel, startStunnel, startSocat, startHaproxy)
	st.eachRound(func(round int, p *peer) {
		for _, d := range []direction{upload, download} {
			st.bulk(round, p, d, 1)
		}
		st.idleEcho(round, p)
		if p.open != nil { // a way of the same program, with one session each
			return
		}
		for _, d := range []direction{upload, download} {
			st.bulk(round, p, d, 8)
			st.echoUnder(round, p, d)
		}
		st.newSessions(round, p)
	})
}

// far compares them over a long line: what they make of it.
func (c *comparison) far(s *scenario) {
	st := c.newStage(s)
	st.inspectLine(s)
	st.start(startSshka, startSSHForward, startChisel, startStunnel, startHaproxy)
	st.eachRound(func(round int, p *peer) {
		st.newSessions(round, p)
		for _, d := range []direction{upload, download} {
			st.bulk(round, p, d, 1)
			st.settle()
			st.echoUnder(round, p, d)
			st.settle()
		}
	})
}

// frame is what happened in a short time.
type frame struct {
	seconds float64
	mbit    float64 // a second, of bulk that arrived
	echo    float64 // ms, the slowest of the echoes sent meanwhile; 0: none was
}

// frameTime is that time.
const frameTime = 250 * time.Millisecond

// shownFilm is what a peer did over time.
type shownFilm struct {
	Peer string `json:"peer"`
	CSV  string `json:"csv"`

	frames []frame
}

// film watches keystrokes before, while and after bulk is uploaded.
func (c *comparison) film(s *scenario) {
	st := c.newStage(s)
	st.inspectLine(s)
	st.start(startSshka, startSSHForward)
	for _, p := range st.peers {
		st.progress("%s: %s", st.name, p.name)
		frames := st.watch(p)
		var csv strings.Builder
		csv.WriteString("seconds,mbit_per_second,slowest_echo_ms\n")
		for _, f := range frames {
			fmt.Fprintf(&csv, "%.2f,%.2f,%.1f\n", f.seconds, f.mbit, f.echo)
		}
		st.report.Films = append(st.report.Films, shownFilm{Peer: p.name, CSV: csv.String(), frames: frames})
		st.settle()
	}
}

// watch films one peer. Bulk begins after a sixth of the time and ends a sixth before its end.
func (st *stage) watch(p *peer) []frame {
	st.t.Helper()
	typed, err := st.openEcho(p)
	if err != nil {
		st.t.Fatal(err)
	}
	defer typed.Close()
	began := time.Now()
	type told struct {
		trips []trip
		err   error
	}
	done := make(chan told, 1)
	go func() {
		trips, err := echoes(typed, st.how.film, keystrokes)
		done <- told{trips, err}
	}()

	var fl *flood
	var last int64
	frames := make([]frame, st.how.film/frameTime)
	from, to := len(frames)/6, len(frames)*5/6
	for i := range frames {
		switch i {
		case from:
			if fl, err = st.startFlood(p, upload, 1); err != nil {
				st.t.Fatal(err)
			}
			defer fl.stop()
		case to:
			fl.stop()
		}
		end := time.Duration(i+1) * frameTime
		time.Sleep(time.Until(began.Add(end)))
		frames[i].seconds = end.Seconds()
		if fl != nil {
			now := fl.arrived.Load()
			frames[i].mbit = float64(now-last) / megabit / frameTime.Seconds()
			last = now
		}
	}
	all := <-done
	if all.err != nil {
		st.t.Fatalf("%s: %v", p.name, all.err)
	}
	for _, one := range all.trips {
		if i := int(one.at.Sub(began) / frameTime); i < len(frames) {
			frames[i].echo = max(frames[i].echo, ms(one.took))
		}
	}
	return frames
}
