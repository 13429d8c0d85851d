// Package status answers at the admin address of a running process: its numbers,
// whether it lives and whether it is ready.
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
