package keyauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// DeniedError is the relay's refusal of a link.
type DeniedError struct {
	// Code tells a program why.
	Code wire.Code
	// RetryAfter is when to come back. Zero: the relay did not say.
	RetryAfter time.Duration
	// Message is the relay's line for a person, as it came. Error shows it
	// without what could harm a terminal.
	Message string
	// Offered is how many keys had been offered.
	Offered int
}

// Error is one line: who refused, why, and when to come back.
func (e *DeniedError) Error() string {
	why := printable(e.Message)
	if why == "" {
		why = e.Code.String()
	}
	s := "denied by the relay: " + why
	if e.Code == wire.CodeNotAllowed {
		switch {
		case e.Offered == 1:
			s += " (1 key offered)"
		case e.Offered > 1:
			s += fmt.Sprintf(" (%d keys offered)", e.Offered)
		}
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", come back in %v", e.RetryAfter)
	}
	return s
}

// NewDeniedError returns m as an error. Offered is how many keys had been
// offered; zero when none were, as after a TICKET.
func NewDeniedError(m *wire.Denied, offered int) *DeniedError {
	return &DeniedError{Code: m.Code, RetryAfter: m.RetryAfter, Message: m.Message, Offered: offered}
}

// printable is s with a blank for everything that is no visible character.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
}

// Prove offers ids over rw and proves the one that the relay picks. It signs at
// most once. The caller has checked the relay's key, and both sent and read
// HELLO.
//
// A relay that refuses is a *DeniedError, one that breaks the protocol matches
// wire.ErrProtocol. When ctx ends, an agent that is being waited for is let go;
// reads and writes of rw end only by the caller's deadline or Close, and then
// the error matches ctx's.
func Prove(ctx context.Context, rw io.ReadWriter, b Binding, ids *Identities) (*wire.Welcome, error) {
	if len(ids.keys) == 0 {
		return nil, ErrNoKeys
	}
	if _, err := rw.Write(wire.Append(nil, ids.Offer())); err != nil {
		return nil, fmt.Errorf("offer ssh keys: %w", orEnd(ctx, err))
	}
	return ProveOffered(ctx, rw, b, ids, Witness{})
}

// Witness is a set of functions that ProveOffered calls. Each may be nil.
type Witness struct {
	// Signing is called with true when a signature is being asked for, which may
	// take a person to touch a key, and with false when it is there.
	Signing func(bool)
	// Proved is called when the relay has accepted the proof.
	Proved func(Evidence)
}

// Evidence is a proof for whoever audits it: `ssh-keygen -Y verify` checks that
// Signature is Key's over Message (docs/security.md). It opens no other connection,
// so it is no secret.
type Evidence struct {
	Key       string // fingerprint, as `ssh-keygen -l` prints it
	Message   []byte // what was signed: the role and the connection's exporter
	Signature []byte // an SSHSIG blob
}

// ProveOffered is the rest of Prove for a caller that has written ids.Offer()
// itself, in one write with its HELLO. Errors are as for Prove.
func ProveOffered(ctx context.Context, rw io.ReadWriter, b Binding, ids *Identities, w Witness) (*wire.Welcome, error) {
	m, err := readAnswer(ctx, rw, len(ids.keys))
	if err != nil {
		return nil, answered("offer ssh keys", err)
	}
	pick, ok := m.(*wire.Pick)
	if !ok {
		return nil, fmt.Errorf("offer ssh keys: %w", wire.Unexpected(m))
	}
	if int(pick.Index) >= len(ids.keys) {
		return nil, fmt.Errorf("offer ssh keys: %w",
			wire.Violation("PICK of key %d where %d were offered", pick.Index, len(ids.keys)))
	}

	k := &ids.keys[pick.Index]
	w.signing(true)
	blob, err := sign(ctx, k, b)
	w.signing(false)
	if err != nil {
		return nil, fmt.Errorf("sign with ssh key %s: %w", fingerprint(k.blob), err)
	}
	if 2+len(blob) > wire.MaxHandshake {
		return nil, fmt.Errorf("sign with ssh key %s: signature of %d bytes is too large to send", fingerprint(k.blob), len(blob))
	}
	if _, err := rw.Write(wire.Append(nil, &wire.Proof{Signature: blob})); err != nil {
		return nil, fmt.Errorf("prove ssh key: %w", orEnd(ctx, err))
	}

	m, err = readAnswer(ctx, rw, len(ids.keys))
	if err != nil {
		return nil, answered("prove ssh key", err)
	}
	welcome, ok := m.(*wire.Welcome)
	if !ok {
		return nil, fmt.Errorf("prove ssh key: %w", wire.Unexpected(m))
	}
	if w.Proved != nil {
		w.Proved(Evidence{Key: fingerprint(k.blob), Message: b.message(), Signature: blob})
	}
	return welcome, nil
}

func (w *Witness) signing(begins bool) {
	if w.Signing != nil {
		w.Signing(begins)
	}
}

// answered names what was being done, but for a refusal: the relay's own words tell
// more than our step.
func answered(doing string, err error) error {
	var denied *DeniedError
	if errors.As(err, &denied) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// readAnswer reads what the relay answers. DENIED is an error.
func readAnswer(ctx context.Context, r io.Reader, offered int) (wire.Message, error) {
	m, err := wire.ReadHandshake(r)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read the relay's answer: %w", orEnd(ctx, err))
	}
	if d, ok := m.(*wire.Denied); ok {
		return nil, NewDeniedError(d, offered)
	}
	return m, nil
}

// orEnd returns the reason why ctx ended, where it has: an error of a
// connection is then only how the caller interrupted the wait.
func orEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
