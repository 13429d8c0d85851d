package test

import (
	"fmt"
	"strings"
)

// goal is what we want of a figure: a ratio to another peer's in the same round, or a value.
type goal struct {
	what     string
	scenario string
	measure  string // or how its name begins
	peer     string
	against  string // "": a value in unit
	unit     string
	limit    float64
	least    bool // wanted is at least limit, else at most
}

// goals are our own; docs/performance.md says why these.
func goals() []goal {
	var all []goal
	both := func(g goal) {
		for _, d := range []direction{upload, download} {
			one := g
			one.what = strings.ReplaceAll(g.what, "DIRECTION", d.String())
			one.measure = strings.ReplaceAll(g.measure, "DIRECTION", d.String())
			all = append(all, one)
		}
	}
	const bulkOne, beside, under = "bulk DIRECTION, one session", "bulk DIRECTION beside echoes", "echo under bulk DIRECTION, p50"
	both(goal{"WAN A: bulk DIRECTION, to direct TCP", "wan-a", bulkOne, peerSOCKS, peerDirect, "×", 0.97, true})
	both(goal{"WAN A: echo under bulk DIRECTION, to direct TCP", "wan-a", under, peerSOCKS, peerDirect, "×", 0.8, false})
	both(goal{"WAN A: that bulk DIRECTION, to direct TCP", "wan-a", beside, peerSOCKS, peerDirect, "×", 0.95, true})
	both(goal{"WAN B, reno: echo under bulk DIRECTION, to direct TCP", "wan-b-reno", under, peerSOCKS, peerDirect, "×", 0.7, false})
	both(goal{"WAN B, bbr: echo under bulk DIRECTION, to direct TCP", "wan-b-bbr", under, peerSOCKS, peerDirect, "×", 1.1, false})
	both(goal{"WAN B, reno: echo under bulk DIRECTION, to ssh -D", "wan-b-reno", under, peerSOCKS, peerSSH, "×", 0.12, false})
	both(goal{"WAN B, bbr: echo under bulk DIRECTION, to ssh -D", "wan-b-bbr", under, peerSOCKS, peerSSH, "×", 0.12, false})
	for _, s := range [][2]string{{"wan-a", "WAN A"}, {"wan-b-reno", "WAN B, reno"}} {
		all = append(all, goal{s[1] + ": new session, to direct TCP", s[0], "new session to first byte", peerSOCKS, peerDirect, "×", 0.55, false})
	}
	both(goal{"Loopback: bulk DIRECTION, to ssh -D", "loopback", bulkOne, peerSOCKS, peerSSH, "×", 1, true})
	both(goal{"Loopback: bulk DIRECTION, to frp", "loopback", bulkOne, peerSOCKS, peerFrp, "×", 1.3, true})
	both(goal{"Loopback: processor time for bulk DIRECTION, to frp", "loopback", "processor time, " + bulkOne, peerSOCKS, peerFrp, "×", 0.8, false})
	both(goal{"Loopback: processor time for bulk DIRECTION, to chisel", "loopback", "processor time, " + bulkOne, peerSOCKS, peerChisel, "×", 0.45, false})
	both(goal{"WAN B, reno: echo under bulk DIRECTION, to chisel", "wan-b-reno", under, peerSOCKS, peerChisel, "×", 0.12, false})
	both(goal{"WAN B, bbr: echo under bulk DIRECTION, to chisel", "wan-b-bbr", under, peerSOCKS, peerChisel, "×", 0.12, false})
	return append(all,
		goal{"Loopback: echo, to frp", "loopback", "echo idle, p50", peerSOCKS, peerFrp, "×", 0.65, false},
		goal{"Loopback: echo, to ssh -D", "loopback", "echo idle, p50", peerSOCKS, peerSSH, "×", 1, false},
		goal{"An idle session, both ends", "idle", idleMemory.Name, peerSOCKS, "", "KiB", 25, false},
		goal{"An idle link, at the relay", "links", linkMemory.Name, peerSOCKS, "", "KiB", 24, false},
		goal{"Beats of 10,000 links every 20 s", "links", beatShare.Name, peerSOCKS, "", "% of a core", 3, false},
		goal{"--fdpass to the first byte, to ssh -W", "start", startTime.Name, startFdpass, startMaster, "×", 1.2, false},
	)
}

// reached is a goal and what was measured.
type reached struct {
	What     string  `json:"what"`
	AtLeast  bool    `json:"at_least"`
	Limit    float64 `json:"limit"`
	Unit     string  `json:"unit"`
	Measured bool    `json:"measured"`
	Got      float64 `json:"got,omitempty"`
	Met      bool    `json:"met"`
}

func (r reached) show(x float64) string {
	if r.Unit == "×" {
		return fmt.Sprintf("%.2f×", x)
	}
	return fmt.Sprintf("%.4g %s", x, r.Unit)
}

func (r reached) want() string {
	if r.AtLeast {
		return "≥ " + r.show(r.Limit)
	}
	return "≤ " + r.show(r.Limit)
}

// reach compares the figures with the goals.
func (r *report) reach() (all []reached) {
	for _, g := range goals() {
		one := reached{What: g.what, AtLeast: g.least, Limit: g.limit, Unit: g.unit}
		if f := r.begins(g.scenario, g.measure, g.peer); f != nil {
			if g.against == "" {
				one.Got, one.Measured = f.Median, true
			} else if other := r.find(f.Scenario, f.Measure, g.against); other != nil {
				one.Got, one.Measured = f.ratio(other)
			}
		}
		one.Met = one.Measured && (g.least && one.Got >= g.limit || !g.least && one.Got <= g.limit)
		all = append(all, one)
	}
	return all
}

// begins finds the figure of a measure by the beginning of its name: its end may say how many.
func (r *report) begins(scenario, name, peer string) *figure {
	for _, f := range r.Figures {
		if f.Scenario == scenario && f.Peer == peer && strings.HasPrefix(f.Measure, name) {
			return f
		}
	}
	return nil
}
