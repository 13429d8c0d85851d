package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// check goes the whole way to the host's own sshd, as sshka-proxy check does, and
// tells which firewall is in the way if one is.
func (n *installation) check(ctx context.Context) (string, error) {
	report, _ := reporter(n.out, false)
	w := &way{}
	c := &checker{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		dial:      w.dial,
		sshConfig: n.sshConfig,
		report:    report,
		wait:      n.ui.err.Wait,
	}
	f := *n.flags
	f.config, f.relay = n.file.Name(), n.to.relay // whatever $SSHKA_RELAY says
	err := c.configuration(&f, &f)
	if err == nil {
		n.there.sshd.address, err = c.toOwnHost(ctx, n.there.sshd)
	}
	if err == nil {
		return "the way is free: a session to the host's own sshd", nil
	}
	c.fail(err)
	var failed *failure
	if errors.As(err, &failed) && failed.layer == layerTCP {
		c.begin(layerTCP, "asking over there what is in the way")
		defer c.end()
		if why := n.inTheWay(ctx, w.why()); why != "" {
			return "", errors.New(why)
		}
	}
	if errors.As(err, &failed) && failed.next != "" {
		return "", fmt.Errorf("%w: %s", err, failed.next)
	}
	return "", err
}

// toOwnHost looks at every layer up to the banner of the sshd beside the relay, and
// returns by what name that is reached: localhost, which lasts, or its address where it
// does not listen on loopback.
func (c *checker) toOwnHost(ctx context.Context, own sshd) (string, error) {
	const localhost = "localhost"
	port := own.port
	if port == "" {
		port = "22"
	}
	c.daemonLayer(ctx)
	l, err := c.link(ctx)
	if err != nil {
		return "", err
	}
	defer l.close()
	if err := c.beat(ctx, l); err != nil {
		return "", err
	}
	err = c.target(ctx, l, localhost, port)
	var failed *failure
	if own.address == "" || !errors.As(err, &failed) || failed.layer != layerTarget {
		return localhost, err
	}
	c.warn(layerTarget, failed.detail, "trying "+own.address)
	return own.address, c.target(ctx, l, own.address, port)
}

// way remembers why the relay's addresses could not be reached.
type way struct {
	mu   sync.Mutex // guards errs
	errs []error
}

func (w *way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	if err != nil {
		w.mu.Lock()
		w.errs = append(w.errs, err)
		w.mu.Unlock()
	}
	return conn, err
}

// why is the cause that says most.
func (w *way) why() unreached {
	w.mu.Lock()
	defer w.mu.Unlock()
	worst := unreached{}
	for _, err := range w.errs {
		if u := whyUnreached(err); u.rank > worst.rank {
			worst = u
		}
	}
	return worst
}

// inTheWay asks over there what keeps us out, "" where that is not a firewall's work.
func (n *installation) inTheWay(ctx context.Context, u unreached) string {
	n.remote.sudo, n.remote.variables["root"] = false, n.there.root
	said, err := n.remote.run(ctx, "firewall", nil)
	if err != nil {
		return "" // what check said stands
	}
	return blockedBy(n.to.port, n.to.host, u.cause, said.has("listens"), said.first("firewall"))
}

// blockedBy tells filtered from closed, and names who may do it.
func blockedBy(port, host, cause string, listens bool, firewall string) string {
	words := map[string]string{causeNoAnswer: "filtered", causeNoRoute: "rejected", causeRefused: "closed"}
	word, ok := words[cause]
	switch {
	case !ok:
		return ""
	case !listens:
		return fmt.Sprintf("TCP %s is %s (%s), and no relay listens on it at %s: does relay.listen in its configuration say another port? Then give --port", port, word, cause, host)
	}
	open := map[string]string{
		"ufw":       "sudo ufw allow " + port + "/tcp",
		"firewalld": "sudo firewall-cmd --permanent --add-port=" + port + "/tcp && sudo firewall-cmd --reload",
		"nftables":  "a rule that accepts tcp dport " + port + " (sudo nft list ruleset shows what drops it)",
		"iptables":  "sudo iptables -I INPUT -p tcp --dport " + port + " -j ACCEPT, and keep it",
	}
	suspects := []string{"the cloud's security group, or a router before the host: let TCP " + port + " in"}
	if how, ok := open[firewall]; ok {
		suspects = slices.Insert(suspects, 0, firewall+" on "+host+": "+how)
	}
	return fmt.Sprintf("TCP %s is %s (%s), though the relay listens on it at %s; suspects: %s", port, word, cause, host, strings.Join(suspects, "; or "))
}
