package client

import (
	"math/rand/v2"
	"time"
)

// How the relay is dialled again. While sessions wait, every second of a pause
// is felt; while none does, nobody is in a hurry.
const (
	waitingPause = time.Second     // between the starts of attempts
	waitingTime  = 2 * time.Minute // for so long
	shortPause   = 5 * time.Second // full jitter below this afterwards
	shortTime    = 10 * time.Minute
	longPause    = 30 * time.Second // and below this at last

	minBackoff = 50 * time.Millisecond

	// A link that lived for less than youngLink is followed within youngPause, not
	// at once: a relay that lets in and closes would be dialled hundreds of times a
	// second. A cut of a young link is still felt for less than a second.
	youngLink  = time.Second
	youngPause = 500 * time.Millisecond

	// waitingConnect and waitingHandshake bound an attempt while sessions wait: a
	// path that has just changed swallows the first of them.
	waitingConnect   = 3 * time.Second
	waitingHandshake = 4 * time.Second
)

// redial decides how long to wait after an attempt that failed. The zero redial
// begins.
type redial struct {
	since   time.Time // there is no link; zero: there was one just now
	backoff time.Duration
}

// next returns the pause after an attempt that took so long: longer and longer,
// with jitter, so that ten thousand proxies do not come back together. waiting
// tells that sessions wait.
func (r *redial) next(now time.Time, took time.Duration, waiting bool) time.Duration {
	if r.since.IsZero() {
		r.since = now.Add(-took)
	}
	switch failing := now.Sub(r.since); {
	case waiting && failing < waitingTime:
		pause := max(0, waitingPause-took)
		return pause - rand.N(pause/4+1)
	case failing < shortTime:
		r.backoff = min(max(2*r.backoff, minBackoff), shortPause)
		return rand.N(r.backoff)
	}
	return rand.N(longPause)
}
