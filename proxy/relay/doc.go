// Package relay is the far end of a link: it accepts links, admits sessions and
// dials their targets.
//
// What may be dialled is a [Policy]; dialling it, and saying truthfully why that
// failed, is a [Dialer]'s work.
package relay
