package relay

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// MinPrefix is how many digits of a session's id name it at least.
const MinPrefix = 6

// Why EndSession ended nothing.
var (
	ErrNoSession = errors.New("no such session")
	ErrAmbiguous = errors.New("several sessions begin so")
	ErrPrefix    = fmt.Errorf("a session is named by %d to %d hexadecimal digits of its id", MinPrefix, 2*len(wire.ID{}))
)

// endedMessage is what the proxies are told.
const endedMessage = "ended by an operator"

// EndSession ends the session whose id begins with prefix: at least MinPrefix
// hexadecimal digits that no other session's id begins with. A proxy that is not
// there now is told when it comes back. The error matches ErrNoSession,
// ErrAmbiguous or ErrPrefix.
func (r *Relay) EndSession(prefix string) error {
	prefix = strings.ToLower(prefix)
	if len(prefix) < MinPrefix || len(prefix) > 2*len(wire.ID{}) || strings.Trim(prefix, "0123456789abcdef") != "" {
		return fmt.Errorf("%q: %w", prefix, ErrPrefix)
	}
	var found *held
	for _, h := range r.held.open() {
		switch {
		case h.s.Err() != nil || !strings.HasPrefix(h.s.ID().String(), prefix):
		case found != nil:
			return fmt.Errorf("%q: %w", prefix, ErrAmbiguous)
		default:
			found = h
		}
	}
	if found == nil {
		return fmt.Errorf("%q: %w", prefix, ErrNoSession)
	}
	r.end(found)
	return nil
}

// EndKey ends every open session of the key with this fingerprint and returns how
// many there were. The key may open others: its line in authorized_keys decides.
func (r *Relay) EndKey(fingerprint string) int {
	n := 0
	for _, h := range r.held.open() {
		if h.who.Fingerprint == fingerprint && h.s.Err() == nil {
			r.end(h)
			n++
		}
	}
	return n
}

func (r *Relay) end(h *held) {
	r.log.Info("session is ended by an operator", "session", h.s.ID().String(), "key", h.who.Fingerprint)
	h.s.Reset(wire.CodeEnded, endedMessage)
}
