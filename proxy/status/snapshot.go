package status

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Schema is the version of a Snapshot's JSON. It rises when a field changes its
// meaning or goes; a new field does not change it.
const Schema = 1

// Snapshot is what a process is doing at one moment. Everything in it is a copy.
type Snapshot struct {
	// Schema is Schema.
	Schema int `json:"schema"`
	// Role is "proxy" or "relay".
	Role string `json:"role"`
	// Running is false when no process has answered; then only LastError counts.
	Running bool `json:"running"`
	// Version and PID are the process's.
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`
	// Time is when the snapshot was taken.
	Time time.Time `json:"time"`
	// Uptime is how long the process has been running.
	Uptime Seconds `json:"uptime_seconds,omitzero"`
	// Relay is the proxy's relay as it is configured.
	Relay string `json:"relay,omitempty"`
	// Dialling tells, at a proxy, that it has no link and looks for one.
	Dialling bool `json:"dialling,omitempty"`
	// DialError is why the last attempt to get one failed. Nil since there was a
	// link.
	DialError *Event `json:"dial_error,omitempty"`
	// Draining tells, at a relay, that it takes no new sessions and ends when those
	// it has have ended, or relay.drain is over.
	Draining bool `json:"draining,omitempty"`
	// LastLost is the link that ended last. Nil: none has.
	LastLost *Lost `json:"last_lost,omitempty"`
	// Links are those that are up.
	Links []Link `json:"links"`
	// Sessions are all that the process knows of.
	Sessions []Session `json:"sessions"`
	// LastError is that of the last sshka-proxy HOST PORT that failed.
	LastError *LastError `json:"last_error,omitempty"`
}

// Link is one link.
type Link struct {
	// Address is the other end's.
	Address string `json:"address"`
	// Agent is the other end's program and version, as it says.
	Agent string `json:"agent,omitempty"`
	// Key is the fingerprint of the proxy's key, at the relay.
	Key string `json:"key,omitempty"`
	// Age is the time since its connection was made.
	Age Seconds `json:"age_seconds"`
	// RTT is the round-trip time of the last beat that was answered. Zero: none was.
	RTT Seconds `json:"rtt_seconds,omitzero"`
	// Beats is how many this end has sent, and LastBeat how long ago the last was.
	Beats    uint64  `json:"beats"`
	LastBeat Seconds `json:"last_beat_seconds_ago,omitzero"`
	// LastByte is how long ago the last byte of any kind was received.
	LastByte Seconds `json:"last_byte_seconds_ago"`
	// Missed is how many beats were missed in all, Row how many of them in a row
	// since the last byte.
	Missed uint64 `json:"missed"`
	Row    int    `json:"missed_in_a_row"`
	// Interval is this end's heartbeat interval now in force. Zero: off.
	Interval Seconds `json:"interval_seconds"`
	// Sent and Received are bytes of the connection.
	Sent     uint64 `json:"sent_bytes"`
	Received uint64 `json:"received_bytes"`
}

// State is whether bytes can flow in a session.
type State string

// The states.
const (
	Opening  State = "opening"  // the target is not reached yet
	Attached State = "attached" // there is a carrier
	Detached State = "detached" // there was one
	Ending   State = "ending"   // it has ended, and the other end does not know yet
)

// Session is one session.
type Session struct {
	ID string `json:"id"`
	// Target is what the client asked for.
	Target string `json:"target"`
	// Key is the fingerprint of the key that it belongs to, at the relay.
	Key string `json:"key,omitempty"`
	// PID is the process that the session is carried for, where it is another than
	// the one that tells. Zero: this one.
	PID int `json:"pid,omitempty"`
	// Age is the time since it was opened.
	Age   Seconds `json:"age_seconds"`
	State State   `json:"state"`
	// Since is how long it has been in this state.
	Since Seconds `json:"state_for_seconds"`
	// ToTarget and ToClient are bytes. With a PID they are those of its carriers
	// over this process, frames included.
	ToTarget uint64 `json:"to_target_bytes"`
	ToClient uint64 `json:"to_client_bytes"`
	// Replay is how many bytes are kept until the other end has stored them.
	Replay uint64 `json:"replay_bytes"`
	// Pauses is how often it was carried on over another carrier.
	Pauses uint64 `json:"pauses"`
}

// Event is something that happened.
type Event struct {
	Ago  Seconds `json:"seconds_ago"`
	Text string  `json:"text"`
}

// Lost is a link that has ended.
type Lost struct {
	Ago Seconds `json:"seconds_ago"`
	// Reason is as in sshka_links_lost_total.
	Reason string `json:"reason"`
	// Error is the connection's own. Empty: none.
	Error string `json:"error,omitempty"`
	// Address is the other end's.
	Address string `json:"address"`
	// Key is as in Link.
	Key string `json:"key,omitempty"`
}

// LastError is what a person may not have seen, since PuTTY and ControlPersist
// hide what a ProxyCommand says.
type LastError struct {
	Time   time.Time `json:"time"`
	Target string    `json:"target"`
	Text   string    `json:"text"`
}

// Seconds is a duration that JSON writes as a number of seconds, exact to a
// microsecond.
type Seconds time.Duration

// MarshalJSON writes the number.
func (s Seconds) MarshalJSON() ([]byte, error) {
	d := time.Duration(s).Round(time.Microsecond)
	return strconv.AppendFloat(nil, d.Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads it.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(time.Duration(f * float64(time.Second)).Round(time.Microsecond))
	return nil
}

// WriteJSON writes s for a program, indented, and a newline. Where it ends on a
// terminal all the same, nothing in it harms that.
func (s *Snapshot) WriteJSON(w io.Writer) error {
	c := *s
	c.Links, c.Sessions = sorted(s)
	e := json.NewEncoder(Escaped(w))
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(&c)
}

// sorted returns the links and sessions of s, the oldest first, and never nil: a
// list is a list.
func sorted(s *Snapshot) ([]Link, []Session) {
	links, sessions := make([]Link, len(s.Links)), make([]Session, len(s.Sessions))
	copy(links, s.Links)
	copy(sessions, s.Sessions)
	slices.SortStableFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Address, b.Address))
	})
	slices.SortStableFunc(sessions, func(a, b Session) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.ID, b.ID))
	})
	return links, sessions
}

// JSON is an answer for Config.Status.
func JSON(take func() *Snapshot) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = take().WriteJSON(w) // who asked has gone
	})
}
