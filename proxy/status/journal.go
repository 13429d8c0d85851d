package status

import (
	"fmt"
	"sync"
	"time"
)

const (
	// maxEntries is how many entries a Journal keeps; each new one takes the place
	// of the oldest.
	maxEntries = 100
	// maxBurst is how many entries of a kind are kept word by word in one second.
	// Those beyond are summed up in one: when a relay starts, thousands of links
	// come at once.
	maxBurst = 5
	// maxListeners is how many may listen to a Journal at a time.
	maxListeners = 16
)

// Kind is what an Entry is about.
type Kind string

// The kinds.
const (
	LinkUp         Kind = "link_up"
	LinkReplaced   Kind = "link_replaced"
	LinkLost       Kind = "link_lost"
	BeatMissed     Kind = "beat_missed"
	SessionOpened  Kind = "session_opened"
	SessionPaused  Kind = "session_paused"
	SessionResumed Kind = "session_resumed"
	SessionEnded   Kind = "session_ended"
)

// plurals name many entries of a kind, in the order in which they are summed up.
var plurals = []struct {
	kind Kind
	text string
}{
	{LinkUp, "links up"},
	{LinkReplaced, "links replaced"},
	{LinkLost, "links lost"},
	{BeatMissed, "beats missed"},
	{SessionOpened, "sessions opened"},
	{SessionPaused, "sessions paused"},
	{SessionResumed, "sessions resumed"},
	{SessionEnded, "sessions ended"},
}

// Entry is something that happened.
type Entry struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	Text string    `json:"text"`
}

// Journal is what happened lately: the last entries, and the beats of the last
// minutes. It is bounded, and whoever reads it never keeps anybody from writing:
// a reader that is slow finds that the oldest entries are gone. The zero Journal
// is empty and ready for use.
type Journal struct {
	mu        sync.Mutex // guards all below
	entries   []Entry    // the newest last
	written   uint64     // entries so far
	beats     beats
	burst     time.Time // when the second of counts began
	counts    map[Kind]int
	listeners map[chan struct{}]struct{}
}

// Write takes an entry, as of now.
func (j *Journal) Write(kind Kind, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.sumUp(now)
	if j.counts == nil {
		j.counts = make(map[Kind]int)
	}
	if j.counts[kind]++; j.counts[kind] <= maxBurst {
		j.keep(Entry{now, kind, clean(fmt.Sprintf(format, args...))})
	}
	j.wake()
}

// BeatAnswered takes a beat's round-trip time.
func (j *Journal) BeatAnswered(rtt time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beats.answered(time.Now(), rtt)
	j.wake()
}

// BeatMissed takes a missed beat, the row-th in a row of its link.
func (j *Journal) BeatMissed(row int) {
	j.mu.Lock()
	j.beats.missed(time.Now())
	j.mu.Unlock()
	if row > 1 {
		j.Write(BeatMissed, "beat missed, %d in a row", row)
	} else {
		j.Write(BeatMissed, "beat missed")
	}
}

// SessionOpened takes a session whose target is reached.
func (j *Journal) SessionOpened(id, target string) {
	j.Write(SessionOpened, "session %s to %s opened", ShortID(id), target)
}

// SessionPaused takes a session that waits for another carrier.
func (j *Journal) SessionPaused(id, target string) {
	j.Write(SessionPaused, "session %s to %s paused", ShortID(id), target)
}

// SessionResumed takes a session that goes on after so long.
func (j *Journal) SessionResumed(id, target string, pause time.Duration) {
	j.Write(SessionResumed, "session %s to %s resumed after %s", ShortID(id), target, trip(Seconds(pause)))
}

// SessionEnded takes a session that is no more. A nil err is a clean end.
func (j *Journal) SessionEnded(id, target string, err error) {
	if err != nil {
		j.Write(SessionEnded, "session %s to %s ended: %v", ShortID(id), target, err)
		return
	}
	j.Write(SessionEnded, "session %s to %s ended", ShortID(id), target)
}

// sumUp tells of the entries that were too many for their second, once it is over.
// The caller holds mu.
func (j *Journal) sumUp(now time.Time) {
	end := j.burst.Add(time.Second)
	if now.Before(end) {
		return
	}
	for _, p := range plurals {
		if n := j.counts[p.kind] - maxBurst; n > 0 {
			j.keep(Entry{end, p.kind, fmt.Sprintf("%d more %s", n, p.text)})
		}
	}
	clear(j.counts)
	j.burst = now
}

// keep makes e the newest entry. The caller holds mu.
func (j *Journal) keep(e Entry) {
	if len(j.entries) == maxEntries {
		copy(j.entries, j.entries[1:])
		j.entries = j.entries[:maxEntries-1]
	}
	j.entries = append(j.entries, e)
	j.written++
}

// wake tells every listener that there is news. The caller holds mu.
func (j *Journal) wake() {
	for l := range j.listeners {
		select {
		case l <- struct{}{}:
		default: // knows already
		}
	}
}

// listener reads a Journal from its oldest entry on.
type listener struct {
	j *Journal
	// news holds one when there is something to read.
	news chan struct{}

	entries uint64 // read, or gone before
	beats   uint64 // changes of the beats that were read
	begun   bool
}

// listen returns a new listener, or nil when there are too many.
func (j *Journal) listen() *listener {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.listeners) >= maxListeners {
		return nil
	}
	if j.listeners == nil {
		j.listeners = make(map[chan struct{}]struct{})
	}
	l := &listener{j: j, news: make(chan struct{}, 1)}
	j.listeners[l.news] = struct{}{}
	return l
}

// leave ends the listener.
func (l *listener) leave() {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	delete(l.j.listeners, l.news)
}

// read returns what came since the last read, the oldest first, and how many
// entries were lost because that was too long ago. The first read returns all that
// is kept, and nothing is lost.
func (l *listener) read() (entries []Entry, lost uint64, seconds []Second) {
	l.j.mu.Lock()
	defer l.j.mu.Unlock()
	now := time.Now()
	l.j.sumUp(now)
	fresh := min(l.j.written-l.entries, uint64(len(l.j.entries)))
	if l.begun {
		lost = l.j.written - l.entries - fresh
	}
	entries = append(entries, l.j.entries[uint64(len(l.j.entries))-fresh:]...)
	seconds = l.j.beats.since(l.beats, now)
	l.entries, l.beats, l.begun = l.j.written, l.j.beats.changes, true
	return entries, lost, seconds
}
