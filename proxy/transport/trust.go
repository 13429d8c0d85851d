package transport

import (
	"fmt"
	"slices"
	"strings"
)

// Trust is how a relay is known.
type Trust struct {
	// Pins are fingerprints from the configuration, one, or two for the time of
	// a rotation. When there are any, nothing else counts.
	Pins []string
	// Strict refuses a relay that is not in Known.
	Strict bool
	// Known remembers relays. Not used with Pins.
	Known *KnownRelays
	// Unrecorded lets a relay in that is not in Known without recording it: for
	// looking, where a person is to decide.
	Unrecorded bool
}

// RelayKeyError is a relay whose key is not the one it should be. Nothing was
// signed and nothing recorded.
type RelayKeyError struct {
	Relay       string   // HOST:PORT
	Fingerprint string   // what it showed
	Want        []string // what was expected; empty: the relay is not known
	Where       string   // file and line of what was expected, or the file to add to
	Pinned      bool     // Want came from the configuration
}

// Error is one line with the next step.
func (e *RelayKeyError) Error() string {
	switch {
	case e.Pinned:
		return fmt.Sprintf("relay %s shows the key %s, the configuration wants %s: if the relay was set up anew, "+
			"compare with sshka-relay fingerprint there and change trust; otherwise someone is in between",
			e.Relay, e.Fingerprint, strings.Join(e.Want, " or "))
	case len(e.Want) == 0:
		return fmt.Sprintf("relay %s is not known and trust is strict: compare its key %s with sshka-relay fingerprint there, "+
			"then add the line \"%s %s\" to %s", e.Relay, e.Fingerprint, e.Relay, e.Fingerprint, e.Where)
	}
	return fmt.Sprintf("relay %s shows the key %s, %s has %s: if the relay was set up anew, compare with sshka-relay fingerprint "+
		"there and remove that line; otherwise someone is in between", e.Relay, e.Fingerprint, e.Where, strings.Join(e.Want, " or "))
}

// check judges the key that relay shows. unknown tells that it is to be recorded
// once the relay has proven to be one.
func (t *Trust) check(relay, fingerprint string) (unknown bool, err error) {
	if len(t.Pins) > 0 {
		if slices.Contains(t.Pins, fingerprint) {
			return false, nil
		}
		return false, &RelayKeyError{Relay: relay, Fingerprint: fingerprint, Want: t.Pins, Pinned: true}
	}
	if t.Known == nil || t.Known.Path == "" {
		return false, fmt.Errorf("relay %s cannot be known: set known_relays, or trust to its fingerprint", relay)
	}
	pins, err := t.Known.Lookup(relay)
	if err != nil {
		return false, err
	}
	e := &RelayKeyError{Relay: relay, Fingerprint: fingerprint}
	for _, p := range pins {
		if p.Fingerprint == fingerprint {
			return false, nil
		}
		e.Want = append(e.Want, p.Fingerprint)
		e.Where = fmt.Sprintf("%s:%d", t.Known.Path, p.Line)
	}
	switch {
	case len(pins) > 0:
		return false, e
	case t.Strict:
		e.Where = t.Known.Path
		return false, e
	}
	return true, nil
}
