package test

import (
	"os"
	"testing"
)

// needTime skips a test that takes a minute or more, unless the long ones are wanted.
func needTime(t *testing.T) {
	t.Helper()
	needLab(t)
	if !longRun() {
		t.Skip("long tests run with SSHKA_E2E_ALL=1 (make e2e-all)")
	}
}

// longRun tells that the long tests are wanted.
func longRun() bool { return os.Getenv("SSHKA_E2E_ALL") != "" }

// pick returns what a test does in a short run, or in a long one.
func pick[T any](short, long T) T {
	if longRun() {
		return long
	}
	return short
}
