package test

import (
	"fmt"
	"strconv"
	"time"
)

// natMode is what a NAT does with a packet of a connection it has forgotten.
type natMode string

const (
	silent natMode = "silent" // drops it, as most firewalls do
	rst    natMode = "rst"    // answers with a reset, as many home routers do
	loose  natMode = "loose"  // takes one from the inside for a new connection, as Linux does by default
)

// natRules is the rule set of a NAT whose inside is lan and whose outside is wan.
// Its first %s is the verdict on a forgotten connection.
//
// Silence takes three of these rules: invalid packets are dropped on their way
// out, unknown ones on their way in, and those for the NAT's own address too,
// since otherwise the NAT's own TCP would answer them with a reset.
const natRules = `
table inet sshka {
	chain lost {
		%s
		drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		iifname "lan" ct state invalid jump lost
		iifname "lan" accept
		iifname "wan" jump lost
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "wan" ct state established,related accept
		iifname "wan" meta l4proto tcp jump lost
	}
}
table ip sshkanat {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan" masquerade
	}
}
`

// setNAT makes a NAT forget a connection after idle without a packet, in whole seconds.
func (l *lab) setNAT(r role, mode natMode, idle time.Duration) {
	l.t.Helper()
	verdict := ""
	if mode == rst {
		verdict = "meta l4proto tcp reject with tcp reset"
	}
	l.check(runIn(l.ns(r), "flush ruleset\n"+fmt.Sprintf(natRules, verdict), "nft", "-f", "-"))
	asNew := "0"
	if mode == loose {
		asNew = "1"
	}
	l.check(sysctl(l.ns(r), "net.netfilter.nf_conntrack_tcp_loose", asNew))
	for _, timer := range []string{"established", "unacknowledged", "max_retrans"} {
		l.check(sysctl(l.ns(r), "net.netfilter.nf_conntrack_tcp_timeout_"+timer, strconv.Itoa(int(idle.Seconds()))))
	}
}
