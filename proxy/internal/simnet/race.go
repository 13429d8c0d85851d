//go:build race

package simnet

import "runtime"

// alone keeps a bubble on one processor until the returned function is called. The
// race detector's context for a bubble's timers is used without a lock when a select
// meets a timer that has expired already (runtime.timer.maybeRunChan, Go 1.26), and
// two processors at once crash the process in it.
func alone() (restore func()) {
	before := runtime.GOMAXPROCS(1)
	return func() { runtime.GOMAXPROCS(before) }
}
