package status

import "time"

const (
	// beatsTime is for how long beats are remembered.
	beatsTime = 15 * time.Minute
	// maxSeconds is how many seconds that is.
	maxSeconds = int(beatsTime / time.Second)
)

// Second is the beats of one second, over all links: however many links there
// are, there is one of these.
type Second struct {
	Time     time.Time `json:"time"`
	Answered uint64    `json:"answered"`
	Missed   uint64    `json:"missed"`
	// Least, Mean and Most are round-trip times of those that were answered.
	Least Seconds `json:"least_seconds"`
	Mean  Seconds `json:"mean_seconds"`
	Most  Seconds `json:"most_seconds"`
}

// beats are those of the last minutes.
type beats struct {
	seconds []second // the newest last, only those with beats
	changes uint64
}

// second is a Second that is still counted.
type second struct {
	Second
	sum     time.Duration // of round-trip times
	changed uint64        // the last of beats.changes that was its
}

func (b *beats) answered(now time.Time, rtt time.Duration) {
	s := b.at(now)
	if s.Answered == 0 || Seconds(rtt) < s.Least {
		s.Least = Seconds(rtt)
	}
	s.Most = max(s.Most, Seconds(rtt))
	s.sum += rtt
	s.Answered++
}

func (b *beats) missed(now time.Time) { b.at(now).Missed++ }

// at returns the second of now, which is about to change. What a clock that is set
// back makes the future is forgotten.
func (b *beats) at(now time.Time) *second {
	b.changes++
	t := now.Round(0).Truncate(time.Second) // the wall clock's: it goes on while the computer sleeps
	for n := len(b.seconds); n > 0 && b.seconds[n-1].Time.After(t); n-- {
		b.seconds = b.seconds[:n-1]
	}
	if n := len(b.seconds); n == 0 || t.After(b.seconds[n-1].Time) {
		if n == maxSeconds {
			copy(b.seconds, b.seconds[1:])
			b.seconds = b.seconds[:n-1]
		}
		b.seconds = append(b.seconds, second{Second: Second{Time: t}})
	}
	s := &b.seconds[len(b.seconds)-1]
	s.changed = b.changes
	return s
}

// since returns the seconds with beats that came after so many changes and are
// not too old.
func (b *beats) since(changes uint64, now time.Time) []Second {
	first := len(b.seconds)
	for first > 0 && b.seconds[first-1].changed > changes && now.Round(0).Sub(b.seconds[first-1].Time) <= beatsTime {
		first--
	}
	all := make([]Second, 0, len(b.seconds)-first)
	for _, s := range b.seconds[first:] {
		if s.Answered > 0 {
			s.Mean = Seconds(s.sum / time.Duration(s.Answered))
		}
		all = append(all, s.Second)
	}
	return all
}
