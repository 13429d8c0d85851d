package keyauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// NewWelcome returns a WELCOME with a fresh ticket from the operating system's
// random source.
func NewWelcome() *wire.Welcome {
	w := new(wire.Welcome)
	// Read never fails: it ends the process instead (crypto/rand).
	_, _ = rand.Read(w.TicketID[:])
	_, _ = rand.Read(w.Secret[:])
	return w
}

// TicketMAC is what a TICKET carries to prove secret on the connection that b
// names (see wire.Ticket).
func TicketMAC(secret wire.Secret, b Binding) [32]byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte(role))
	h.Write(b.Exporter[:])
	h.Write(b.Relay[:])
	return [32]byte(h.Sum(nil))
}

// CheckTicket reports whether t proves secret on the connection that b names.
// The time it takes tells nothing about the secret.
func CheckTicket(t *wire.Ticket, secret wire.Secret, b Binding) bool {
	want := TicketMAC(secret, b)
	return hmac.Equal(t.MAC[:], want[:])
}
