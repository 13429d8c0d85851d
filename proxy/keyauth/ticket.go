package keyauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Ticket is a secret that a relay has handed out to this proxy, with a WELCOME
// or a session's OK. It stands for the key that was proven then.
type Ticket struct {
	Kind   wire.TicketKind
	ID     wire.ID
	Secret wire.Secret
}

// LinkTicket returns the ticket of a WELCOME.
func LinkTicket(w *wire.Welcome) Ticket {
	return Ticket{Kind: wire.TicketLink, ID: w.TicketID, Secret: w.Secret}
}

// Valid reports whether t is a ticket at all: a relay need not hand one out.
func (t Ticket) Valid() bool { return t.Secret != (wire.Secret{}) }

// Message returns what proves t on the connection that b names.
func (t Ticket) Message(b Binding) *wire.Ticket {
	return &wire.Ticket{Kind: t.Kind, ID: t.ID, MAC: TicketMAC(t.Secret, b)}
}

// ErrTicketUnknown is matched when the relay knows none of the tickets, and
// waits for an OFFER.
var ErrTicketUnknown = errors.New("the relay does not know the ticket")

// Redeem proves tickets, one after the other, until the relay knows one. The
// caller has written the first one's Message, in one write with its HELLO. An
// error that matches ErrTicketUnknown leaves the connection as it was, for Prove;
// any other is as for Prove.
func Redeem(ctx context.Context, rw io.ReadWriter, b Binding, tickets []Ticket) (*wire.Welcome, error) {
	for i := range tickets {
		if i > 0 {
			if _, err := rw.Write(wire.Append(nil, tickets[i].Message(b))); err != nil {
				return nil, fmt.Errorf("show a ticket: %w", orEnd(ctx, err))
			}
		}
		m, err := readAnswer(ctx, rw, 0)
		var denied *DeniedError
		switch {
		case errors.As(err, &denied) && denied.Code == wire.CodeUnknown:
			continue
		case err != nil:
			return nil, fmt.Errorf("show a ticket: %w", err)
		}
		welcome, ok := m.(*wire.Welcome)
		if !ok {
			return nil, fmt.Errorf("show a ticket: %w", wire.Unexpected(m))
		}
		return welcome, nil
	}
	return nil, ErrTicketUnknown
}

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
