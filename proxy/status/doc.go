// Package status is what a running process is doing: plain data, a [Snapshot],
// as text for a person and as JSON for a program, and the answers at the admin
// address: the numbers, the status, whether the process lives and is ready.
//
//	ln, err := status.Listen(ctx, file.Proxy.Admin, file.Given("proxy.admin"), log)
//	if ln != nil {
//		h := status.NewHandler(ln.Addr(), status.Config{Metrics: m.Handler(), Ready: ready})
//		go status.Serve(ctx, ln, h, log)
//	}
//
// The address is meant for a monitoring system, not for people's browsers, and
// yet a browser on the same machine reaches it: so pages of other sites get
// nothing, whatever their name resolves to.
package status
