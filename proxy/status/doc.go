// Package status is what a running process is doing: plain data, a [Snapshot],
// as text for a person and as JSON for a program; a [Journal] of what happened
// lately; and the answers at the admin address: the numbers, the status, a page
// that shows it in a browser, whether the process lives and is ready.
//
//	ln, err := status.Listen(ctx, file.Proxy.Admin, file.Given("proxy.admin"), log)
//	if ln != nil {
//		h := status.NewHandler(ln.Addr(), status.Config{Metrics: m.Handler(), Page: status.NewPage(take, &journal), Ready: ready})
//		go status.Serve(ctx, ln, h, log)
//	}
//
// A browser on the same machine reaches the address, and so do the pages of other
// sites in it: they get nothing, whatever their name resolves to.
package status
