//go:build !race

package simnet

// alone is for the race detector only.
func alone() (restore func()) { return func() {} }
