package status

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// shownID is how many digits of a session's id are shown: enough to tell it from
// others and to end it by.
const shownID = 12

// WriteText writes s for a person. What other ends have sent is shown without
// what could harm a terminal.
func (s *Snapshot) WriteText(w io.Writer) error {
	var b bytes.Buffer
	if s.Running {
		links, sessions := sorted(s)
		fmt.Fprintf(&b, "sshka-%s %s, pid %d, up %s", s.Role, s.Version, s.PID, span(s.Uptime))
		if s.Relay != "" {
			fmt.Fprintf(&b, ", relay %s", clean(s.Relay))
		}
		if s.Draining {
			b.WriteString(", draining: it takes no new sessions")
		}
		b.WriteString("\n\n")
		s.links(&b, links)
		b.WriteString("\n")
		writeSessions(&b, sessions)
	}
	if e := s.LastError; e != nil {
		if s.Running {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "last ProxyCommand error, %s ago: %s: %s\n",
			span(Seconds(max(0, s.Time.Sub(e.Time)))), clean(e.Target), clean(e.Text))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// links writes the links, or why there are none, and the last that was lost.
func (s *Snapshot) links(b *bytes.Buffer, links []Link) {
	if len(links) > 0 {
		t := newTable(b)
		t.row("LINK", "KEY", "AGE", "RTT", "LAST BEAT", "LAST BYTE", "MISSED", "INTERVAL", "PEER")
		for _, l := range links {
			rtt, beat := "-", "-"
			if l.RTT > 0 {
				rtt = trip(l.RTT)
			}
			if l.Beats > 0 {
				beat = span(l.LastBeat) + " ago"
			}
			interval := "off"
			if l.Interval > 0 {
				interval = time.Duration(l.Interval).String()
			}
			missed := strconv.FormatUint(l.Missed, 10)
			if l.Row > 0 {
				missed += fmt.Sprintf(" (%d in a row)", l.Row)
			}
			t.row(l.Address, cmp.Or(l.Key, "-"), span(l.Age), rtt, beat, span(l.LastByte)+" ago", missed, interval, cmp.Or(l.Agent, "-"))
		}
		t.flush("KEY")
	} else {
		b.WriteString("no link")
		if s.Dialling {
			b.WriteString(", the relay is being dialled")
		}
		if e := s.DialError; e != nil {
			fmt.Fprintf(b, "; last error, %s ago: %s", span(e.Ago), clean(e.Text))
		}
		b.WriteString("\n")
	}
	if l := s.LastLost; l != nil {
		fmt.Fprintf(b, "last link lost %s ago: %s", span(l.Ago), l.Reason)
		if l.Error != "" {
			fmt.Fprintf(b, " (%s)", clean(l.Error))
		}
		if len(links) != 1 || links[0].Address != l.Address {
			fmt.Fprintf(b, ", %s", clean(l.Address))
		}
		b.WriteString("\n")
	}
}

// ShortID is so much of a session's id as a person needs to tell it from others.
func ShortID(id string) string { return id[:min(shownID, len(id))] }

// writeSessions writes the sessions.
func writeSessions(b *bytes.Buffer, sessions []Session) {
	if len(sessions) == 0 {
		b.WriteString("no sessions\n")
		return
	}
	t := newTable(b)
	t.row("SESSION", "TARGET", "KEY", "STATE", "AGE", "TO TARGET", "TO CLIENT", "REPLAY", "PAUSES", "PID")
	for _, v := range sessions {
		pid, replay := "-", size(v.Replay)
		if v.PID != 0 {
			pid, replay = strconv.Itoa(v.PID), "-" // that process's own
		}
		t.row(ShortID(v.ID), v.Target, cmp.Or(v.Key, "-"), fmt.Sprintf("%s %s", v.State, span(v.Since)), span(v.Age),
			size(v.ToTarget), size(v.ToClient), replay, strconv.FormatUint(v.Pauses, 10), pid)
	}
	t.flush("KEY", "PID")
}

// table is rows of cells of which the first has the titles.
type table struct {
	w    io.Writer
	rows [][]string
}

func newTable(w io.Writer) *table { return &table{w: w} }

func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// flush writes the table without those of the optional columns that say nothing.
func (t *table) flush(optional ...string) {
	w := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	titles := t.rows[0]
	said := make([]bool, len(titles))
	for i, title := range titles {
		said[i] = !slices.Contains(optional, title) ||
			slices.ContainsFunc(t.rows[1:], func(r []string) bool { return r[i] != "-" })
	}
	for _, cells := range t.rows {
		var kept []string
		for i, c := range cells {
			if said[i] {
				kept = append(kept, c)
			}
		}
		fmt.Fprintln(w, strings.Join(kept, "\t"))
	}
	_ = w.Flush() // a bytes.Buffer never fails
}

// span is a duration as a person says it: two units at most.
func span(s Seconds) string {
	d := time.Duration(s)
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", max(0, d.Milliseconds()))
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// trip is a round-trip time.
func trip(s Seconds) string {
	d := time.Duration(s)
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// size is a number of bytes.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, prefix := range "KMGTPE" {
		if v /= unit; v < unit {
			return fmt.Sprintf("%.1f %ciB", v, prefix)
		}
	}
	return fmt.Sprintf("%.1f EiB", v)
}

// clean is s with a blank for everything that is no visible character.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
