// Package inbound is where clients come in: what they speak becomes a target and
// a stream.
//
// So far that is standard input and output, as ssh's ProxyCommand uses them:
//
//	stdio := inbound.NewStdio(os.Stdin, os.Stdout)
//	s, err := c.Start(ctx, target, stdio.Early)
//	result := splice.Join(ctx, stdio, s)
package inbound
