package status

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func texts(entries []Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Text)
	}
	return all
}

func TestAListenerHearsWhatWasBeforeAndWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		j.SessionOpened("0123456789abcdef", "db:22")
		j.BeatAnswered(12 * time.Millisecond)
		l := j.listen()
		defer l.leave()
		entries, lost, seconds := l.read()
		if want := []string{"session 0123456789ab to db:22 opened"}; !reflect.DeepEqual(texts(entries), want) || lost != 0 {
			t.Errorf("%q, %d lost, want %q", texts(entries), lost, want)
		}
		if len(seconds) != 1 || seconds[0].Answered != 1 || time.Duration(seconds[0].Mean) != 12*time.Millisecond {
			t.Errorf("%+v", seconds)
		}
		if entries, lost, seconds = l.read(); len(entries)+len(seconds) != 0 || lost != 0 {
			t.Errorf("read twice: %+v %+v, %d lost", entries, seconds, lost)
		}
		select {
		case <-l.news:
			t.Error("news before there was any")
		default:
		}
		start := time.Now()
		time.AfterFunc(time.Minute, func() { j.BeatMissed(2) })
		<-l.news
		entries, _, seconds = l.read()
		if time.Since(start) != time.Minute || len(entries) != 1 || entries[0].Text != "beat missed, 2 in a row" || entries[0].Kind != BeatMissed {
			t.Errorf("%+v", entries)
		}
		if len(seconds) != 1 || seconds[0].Missed != 1 || seconds[0].Answered != 0 {
			t.Errorf("%+v", seconds)
		}
	})
}

// TestASlowListenerLosesTheOldestAndIsToldHowMany: and the writer never waits.
func TestASlowListenerLosesTheOldestAndIsToldHowMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		l := j.listen()
		defer l.leave()
		l.read()
		const all = maxEntries + 7
		start := time.Now()
		for i := range all {
			j.Write(LinkUp, "link %d", i)
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d != all*time.Second {
			t.Errorf("the writer was kept for %v", d-all*time.Second)
		}
		entries, lost, _ := l.read()
		if lost != 7 || len(entries) != maxEntries || entries[0].Text != "link 7" || entries[maxEntries-1].Text != fmt.Sprintf("link %d", all-1) {
			t.Errorf("%d lost, %d entries from %q", lost, len(entries), entries[0].Text)
		}
		late := j.listen()
		defer late.leave()
		if entries, lost, _ := late.read(); lost != 0 || len(entries) != maxEntries {
			t.Errorf("who comes later is told that %d were lost, and %d entries", lost, len(entries))
		}
	})
}

// TestABurstIsSummedUp: ten thousand links that come at once do not push out why
// the ones before were lost.
func TestABurstIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		l := j.listen()
		defer l.leave()
		j.Write(LinkLost, "link lost: the reason")
		for i := range 10_000 {
			j.Write(LinkUp, "link %d", i)
			j.BeatMissed(1)
		}
		time.Sleep(time.Second)
		want := append([]string{"link lost: the reason"}, "link 0", "beat missed", "link 1", "beat missed", "link 2", "beat missed", "link 3", "beat missed", "link 4", "beat missed", "9995 more links up", "9995 more beats missed")
		entries, lost, seconds := l.read()
		if got := texts(entries); !reflect.DeepEqual(got, want) || lost != 0 {
			t.Errorf("%q, %d lost", got, lost)
		}
		if len(seconds) != 1 || seconds[0].Missed != 10_000 {
			t.Errorf("%+v", seconds)
		}
		time.Sleep(time.Hour)
		j.Write(LinkUp, "another")
		if entries, _, _ := l.read(); len(entries) != 1 || entries[0].Text != "another" {
			t.Errorf("%q", texts(entries))
		}
	})
}

func TestListenersAreBounded(t *testing.T) {
	var j Journal
	var all []*listener
	for range maxListeners {
		all = append(all, j.listen())
	}
	if j.listen() != nil {
		t.Errorf("a listener beyond %d", maxListeners)
	}
	all[3].leave()
	all[3].leave()
	if j.listen() == nil {
		t.Error("no room though one has left")
	}
}

func TestBeatsOfASecondAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		l := j.listen()
		defer l.leave()
		for _, rtt := range []time.Duration{30 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond} {
			j.BeatAnswered(rtt)
		}
		_, _, seconds := l.read()
		want := Second{Time: seconds[0].Time, Answered: 3, Least: Seconds(10 * time.Millisecond), Mean: Seconds(30 * time.Millisecond), Most: Seconds(50 * time.Millisecond)}
		if len(seconds) != 1 || seconds[0] != want {
			t.Errorf("%+v, want %+v", seconds, want)
		}
		j.BeatAnswered(70 * time.Millisecond) // the same second again, as it is now
		if _, _, seconds = l.read(); len(seconds) != 1 || seconds[0].Answered != 4 {
			t.Errorf("%+v", seconds)
		}
	})
}

func TestBeatsAreForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j Journal
		for range 2 * maxSeconds {
			j.BeatAnswered(time.Millisecond)
			time.Sleep(time.Second)
		}
		read := func() int {
			l := j.listen()
			defer l.leave()
			_, _, seconds := l.read()
			return len(seconds)
		}
		if n := read(); n != maxSeconds || cap(j.beats.seconds) > 2*maxSeconds {
			t.Errorf("%d seconds, room for %d", n, cap(j.beats.seconds))
		}
		time.Sleep(10 * time.Minute)
		if n := read(); n != 300 {
			t.Errorf("%d seconds ten minutes later", n)
		}
		time.Sleep(10 * time.Minute)
		if n := read(); n != 0 {
			t.Errorf("%d seconds twenty minutes later", n)
		}
	})
}

// TestAClockThatIsSetBackLosesTheFuture: and beats are counted on.
func TestAClockThatIsSetBackLosesTheFuture(t *testing.T) {
	var b beats
	b.answered(at, time.Millisecond)
	b.answered(at.Add(time.Hour), time.Millisecond)
	b.answered(at.Add(time.Minute), time.Millisecond)
	got := b.since(0, at.Add(time.Minute))
	if len(got) != 2 || !got[0].Time.Equal(at) || !got[1].Time.Equal(at.Add(time.Minute)) {
		t.Errorf("%+v", got)
	}
}

// TestWhatPeersSayIsOneVisibleLine: a target is what the other end wrote.
func TestWhatPeersSayIsOneVisibleLine(t *testing.T) {
	const evil = "\x1b]0;\a\n\r\u202e\u200bx"
	var j Journal
	j.SessionOpened(evil, evil)
	j.SessionEnded("id", evil, fmt.Errorf("%s", evil))
	l := j.listen()
	defer l.leave()
	entries, _, _ := l.read()
	for _, e := range entries {
		if strings.ContainsAny(e.Text, "\x1b\a\n\r\u202e\u200b") {
			t.Errorf("%q", e.Text)
		}
	}
}

// TestBeatsAllocateNothing: a relay of ten thousand links counts all the time.
func TestBeatsAllocateNothing(t *testing.T) {
	var j Journal
	l := j.listen()
	defer l.leave()
	if n := testing.AllocsPerRun(1000, func() { j.BeatAnswered(time.Millisecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
