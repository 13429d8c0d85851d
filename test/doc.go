// Package test runs the two programs end to end: a real ssh, a real sshd and
// real NATs that forget idle connections, each in a network namespace of its own.
//
// It holds tests only. They need Linux, root and a few programs, and run when
// SSHKA_E2E is set: with "run" a missing prerequisite skips them, with "require"
// it fails them. make e2e runs them. What takes a minute or more runs only with
// SSHKA_E2E_ALL=1, too: make e2e-all.
//
// Every test builds the same small internet (lab_linux_test.go):
//
//	client ── nat ── inet ── relay ── natt ── target
//
// where nat and natt are NATs towards the right (nat_linux_test.go), sshd runs in
// target and, for connections without a relay, in relay as well. Tests cut, move and
// spoil the way from the client to the relay (network_linux_test.go, and the line of
// wan_linux_test.go, which delays, drops, reorders and damages packets), while echoes
// (echo_linux_test.go) check every byte and measure every pause. What a test
// waits for is an event: a line, a listening port, the end of a process. The only
// time that passes is the idle time that a test is about, since the timer of a
// NAT in the kernel is real.
//
// TestCompare (compare_linux_test.go and its neighbours) is no test: make
// bench-compare runs it to measure both programs beside others.
package test
