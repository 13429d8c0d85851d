package status

import (
	"cmp"
	"slices"
)

// maxRows is how many links, and how many sessions, the page shows.
const maxRows = 50

// totals counts what a front may not show.
type totals struct {
	Links int `json:"links"`
	// Missing are links whose last beat was missed.
	Missing  int           `json:"links_missing"`
	Sessions int           `json:"sessions"`
	States   map[State]int `json:"states"`
}

// front is what the page shows of s: all of it, but of the links and sessions so
// many at most, those in trouble before others and older ones before younger ones.
// What other ends have sent is without what could change how it reads. s is not to
// be used afterwards.
func (s *Snapshot) front() (*Snapshot, totals) {
	t := totals{Links: len(s.Links), Sessions: len(s.Sessions), States: make(map[State]int)}
	for i := range s.Links {
		if s.Links[i].Row > 0 {
			t.Missing++
		}
	}
	for i := range s.Sessions {
		t.States[s.Sessions[i].State]++
	}
	s.Links = foremost(s.Links, func(a, b Link) int { return cmp.Compare(b.Row, a.Row) }, func(l Link) Seconds { return l.Age })
	s.Sessions = foremost(s.Sessions, func(a, b Session) int { return cmp.Compare(urgency(b.State), urgency(a.State)) }, func(v Session) Seconds { return v.Age })
	s.Links, s.Sessions = sorted(s)
	for i := range s.Links {
		l := &s.Links[i]
		l.Address, l.Agent, l.Key = clean(l.Address), clean(l.Agent), clean(l.Key)
	}
	for i := range s.Sessions {
		v := &s.Sessions[i]
		v.ID, v.Target, v.Key = clean(v.ID), clean(v.Target), clean(v.Key)
	}
	s.Relay = clean(s.Relay)
	if s.DialError != nil {
		s.DialError.Text = clean(s.DialError.Text)
	}
	if l := s.LastLost; l != nil {
		l.Error, l.Address, l.Key = clean(l.Error), clean(l.Address), clean(l.Key)
	}
	return s, t
}

// foremost returns the first maxRows of all by trouble, then by age.
func foremost[T any](all []T, trouble func(a, b T) int, age func(T) Seconds) []T {
	if len(all) <= maxRows {
		return all
	}
	slices.SortFunc(all, func(a, b T) int { return cmp.Or(trouble(a, b), cmp.Compare(age(b), age(a))) })
	return all[:maxRows]
}

// urgency is how much a session in that state is worth a look.
func urgency(s State) int {
	if s == Attached {
		return 0
	}
	return 1
}
