// Package systemd is how a running program talks with the service manager that
// started it: it tells that it is ready, reloads or stops, that it works, and
// takes listeners that were opened for it. Without such a manager all of it does
// nothing.
//
//	systemd.Ready("listening on :7422")
//	go systemd.Watch(ctx, relay.Alive)
//	...
//	systemd.Stopping("draining, 3 sessions left")
//
// What is told is best effort: a manager that does not hear it has its own
// timeouts.
package systemd
