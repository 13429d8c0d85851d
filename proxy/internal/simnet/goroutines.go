package simnet

import "runtime"

// Goroutines returns how many goroutines there are. One that has returned counts until its
// thread has put it away, which synctest.Wait does not wait for: while there are more than
// most, others get their turn and it looks again, a million times.
func Goroutines(most int) int {
	n := runtime.NumGoroutine()
	for range 1_000_000 {
		if n <= most {
			break
		}
		runtime.Gosched()
		n = runtime.NumGoroutine()
	}
	return n
}
