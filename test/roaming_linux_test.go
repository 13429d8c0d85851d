package test

import (
	"testing"
	"time"
)

// What networks do to a link, and how long a session pauses for it.
func TestSessionsOutliveWhatNetworksDo(t *testing.T) {
	t.Parallel()
	needTools(t, "conntrack")
	const off = 3 * time.Second
	for _, tt := range []struct {
		name    string
		mode    natMode
		second  bool // network
		allowed time.Duration
		happen  func(t *testing.T, l *lab)
		then    func(t *testing.T, l *lab) // another one, nil for none
	}{
		{
			name: "the NAT forgets and is silent", mode: silent, allowed: silentPause,
			happen: func(t *testing.T, l *lab) { l.forgetLinks(t, nat) },
		},
		{
			name: "the NAT forgets and resets", mode: rst, allowed: noticedPause,
			happen: func(t *testing.T, l *lab) { l.forgetLinks(t, nat) },
		},
		{
			name: "the NAT reboots", mode: silent, allowed: noticedPause,
			happen: func(t *testing.T, l *lab) { l.rebootNAT(t, off) },
		},
		{
			name: "the public address changes", mode: silent, allowed: silentPause,
			happen: func(_ *testing.T, l *lab) { l.renumberNAT() },
		},
		{
			name: "the client moves and comes back", mode: silent, second: true, allowed: noticedPause,
			happen: func(_ *testing.T, l *lab) { l.moveAway() },
			then:   func(_ *testing.T, l *lab) { l.moveBack() },
		},
		{
			name: "a better route appears", mode: silent, second: true, allowed: noticedPause,
			happen: func(_ *testing.T, l *lab) { l.preferSecond() },
		},
		{
			name: "the client's link goes down and up", mode: rst, allowed: noticedPause,
			happen: func(t *testing.T, l *lab) {
				l.unplug(off)
				l.forgetLinks(t, nat) // such a link is up again in a network that has forgotten it
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.setNAT(nat, tt.mode, 10*time.Minute)
			if tt.second {
				l.addSecondNetwork()
			}
			c := l.startClients(t, nil, nil)
			c.endure(tt.name, tt.allowed, func() { tt.happen(t, l) })
			if tt.then != nil {
				c.endure("and back", tt.allowed, func() { tt.then(t, l) })
			}
			c.finish()
		})
	}
}
