package simnet

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Bubble runs f in a testing/synctest bubble. yamux keeps its timers in a
// package-level sync.Pool, and a timer of another bubble kills the process, so
// the pool is drained before and after; t.Parallel is not allowed.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	drain()
	defer drain()
	defer alone()()
	synctest.Test(t, f)
}

// drain empties every sync.Pool: the first collection moves a pool's content to
// its victim cache, the second drops it.
func drain() {
	runtime.GC()
	runtime.GC()
}
