// Package client keeps one link to a relay up and carries sessions through it.
//
//	c, err := client.New(client.Config{Dialer: dialer})
//	go c.Run(ctx)                                       // dials, and dials again
//	conn, err := c.DialContext(ctx, "tcp", "db:22")     // through the relay
//
// DialContext is the seam that inbound asks for; [Direct] is another provider of
// it, without a relay. Run may be called once.
package client
