// Package keyauth proves an ssh key, or a ticket, over a TLS connection: the
// second half of a link's handshake, after HELLO and before WELCOME
// (docs/protocol.md).
//
// A proxy offers public keys and certificates, the relay picks one that its
// authorized_keys file lists, and the proxy signs once:
//
//	proxy                                relay
//	OFFER a key, another   ─────────▶
//	                       ◀─────────    PICK 1          or DENIED
//	PROOF sshsig           ─────────▶
//	                       ◀─────────    WELCOME         or DENIED
//
// What is signed is bound to the one TLS connection it is sent over and to the
// key of the relay at its other end, see Binding: on any other connection, and
// towards any other relay, the same signature is worth nothing. It is an
// ordinary OpenSSH signature, which ssh-keygen -Y verify accepts.
//
// On the proxy
//
//	ids, err := keyauth.Load(ctx, keyauth.Sources{List: list, AgentSocket: sock})
//	...
//	welcome, err := keyauth.Prove(ctx, conn, binding, ids)
//
// and on the relay
//
//	v := &keyauth.Verifier{Authorizer: keyauth.NewAuthorizedKeys(path, account, report)}
//	...
//	who, err := v.Verify(conn, keyauth.Peer{Binding: binding, Addr: addr})
//	if err == nil {
//		_, err = conn.Write(wire.Append(nil, keyauth.NewWelcome()))
//	}
//
// Who is in may lose the right to be: a Rechecker, such as AuthorizedKeys, tells.
//
// The package owns no connection: its callers set deadlines and close. Prove
// must not be called before the relay's own key has been checked.
package keyauth
