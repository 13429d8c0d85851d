package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
)

// The bounds of values.
const (
	minBeat      = Duration(100 * time.Millisecond)
	minKeepalive = Duration(time.Second) // the kernel counts in seconds
	minAge       = Duration(time.Second) // below, links would do nothing but begin
	minBuffer    = 64 * KiB
	maxBuffer    = 64 * MiB
)

// checker judges the values of a File whose types are right. Where decoding
// failed the default stands, so nothing is complained about twice.
type checker struct {
	file *File
	env  func(string) string
	errs []*Error
}

// check returns all that is wrong with f's values and replaces ~/ and its like
// in the paths that f names.
func check(f *File, env func(string) string) []*Error {
	c := &checker{file: f, env: env}
	c.proxy(&f.Proxy)
	c.relay(&f.Relay)
	return c.errs
}

func (c *checker) complain(path, format string, args ...any) {
	c.errs = append(c.errs, c.file.Errorf(path, format, args...))
}

func (c *checker) given(path string) bool {
	_, ok := c.file.positions[path]
	return ok
}

func (c *checker) proxy(p *Proxy) {
	if p.Relay != "" {
		addr, err := ParseRelay(p.Relay)
		if err != nil {
			c.complain("proxy.relay", "%w", err)
		}
		p.Relay = addr
	}
	c.path("proxy.known_relays", &p.KnownRelays, false)
	if c.given("proxy.identity") {
		for i := range p.Identity {
			if p.Identity[i] != IdentityAgent {
				c.path(fmt.Sprintf("proxy.identity[%d]", i), &p.Identity[i], false)
			}
		}
	}
	c.path("proxy.socket", &p.Socket, true)
	for i, l := range p.Listen {
		c.loopback(fmt.Sprintf("proxy.listen[%d]", i), l, p.AllowRemote)
	}
	for i, f := range p.Forwards {
		path := fmt.Sprintf("proxy.forwards[%d]", i)
		c.loopback(path+".listen", f.Listen, p.AllowRemote)
		if _, err := client.ParseTarget(f.Target); err != nil {
			c.complain(path+".target", "%w; write HOST:PORT", err)
		}
	}
	c.admin("proxy.admin", p.Admin)
	c.heartbeat("proxy.heartbeat", p.Heartbeat)
	c.buffer("proxy.session.buffer", p.Session.Buffer)
	if age := p.Link.MaxAge; age != 0 && age < minAge {
		c.complain("proxy.link.max_age", "%s is too short; write 0 for as old as it likes, or at least %s", age, minAge)
	}
}

func (c *checker) relay(r *Relay) {
	if len(r.Listen) == 0 {
		c.complain("relay.listen", "is empty; name at least one address, such as %q", ":"+DefaultPort)
	}
	for i, l := range r.Listen {
		if err := checkListen(l); err != nil {
			c.complain(fmt.Sprintf("relay.listen[%d]", i), "%w", err)
		}
	}
	c.path("relay.key", &r.Key, true)
	c.path("relay.state", &r.State, true)
	c.path("relay.authorized_keys", &r.AuthorizedKeys, true)
	if len(r.AuthorizedKeysCommand) > 0 {
		if err := keyauth.CheckCommand(r.AuthorizedKeysCommand); err != nil {
			c.complain("relay.authorized_keys_command", "%w", err)
		}
	}
	c.policy(r)
	if r.TargetKeepalive != 0 && r.TargetKeepalive < minKeepalive {
		c.complain("relay.target_keepalive", "%s is too short; write 0 for off, or at least %s", r.TargetKeepalive, minKeepalive)
	}
	c.admin("relay.admin", r.Admin)
	c.heartbeat("relay.heartbeat", r.Heartbeat)
	c.buffer("relay.session.buffer", r.Session.Buffer)
	c.positive("relay.limits.links", r.Limits.Links)
	c.positive("relay.limits.handshakes", r.Limits.Handshakes)
	c.positive("relay.limits.links_per_key", r.Limits.LinksPerKey)
	c.positive("relay.limits.opens_per_second", r.Limits.OpensPerSecond)
	c.positive("relay.limits.dials_per_key", r.Limits.DialsPerKey)
	c.positive("relay.limits.sessions_per_link", r.Limits.SessionsPerLink)
	c.positive("relay.limits.sessions_per_key", r.Limits.SessionsPerKey)
	if r.Limits.HandshakeTimeout == 0 {
		c.complain("relay.limits.handshake_timeout", "0 would refuse everybody; write a duration such as 10s")
	}
}

// policy complains about every entry of both lists, each on its own line.
func (c *checker) policy(r *Relay) {
	_, err := relay.ParsePolicy(r.Allow, r.Deny)
	if err == nil {
		return
	}
	entries := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		entries = joined.Unwrap()
	}
	for _, e := range entries {
		var pe *relay.PatternError
		if errors.As(e, &pe) {
			c.complain(fmt.Sprintf("relay.%s[%d]", pe.List, pe.Index), "%q: %s", pe.Pattern, pe.Reason)
		} else {
			c.complain("relay", "%w", e)
		}
	}
}

// loopback complains about an address for clients that others could reach: they
// would use this user's keys.
func (c *checker) loopback(path, address string, allowRemote bool) {
	if err := checkListen(address); err != nil {
		c.complain(path, "%w", err)
		return
	}
	if allowRemote {
		return
	}
	host, _, _ := net.SplitHostPort(address)
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		c.complain(path, "%q is not a loopback address, and whoever reaches it uses your keys; write 127.0.0.1:PORT, or allow_remote: true", address)
	}
}

func (c *checker) admin(path, address string) {
	if address == "" {
		return
	}
	if err := checkListen(address); err != nil {
		c.complain(path, "%w", err)
	}
}

func (c *checker) heartbeat(path string, h Heartbeat) {
	if h.Interval != 0 && h.Interval < minBeat {
		c.complain(path+".interval", "%s is too short; write 0 for off, or at least %s", h.Interval, minBeat)
	}
	if h.Timeout < minBeat {
		c.complain(path+".timeout", "%s is too short; write at least %s", h.Timeout, minBeat)
	}
	if h.CountMax < 0 {
		c.complain(path+".count_max", "%d is negative; write 0 for never lost, or a number of misses", h.CountMax)
	}
}

func (c *checker) buffer(path string, b Size) {
	if b < minBuffer || b > maxBuffer {
		c.complain(path, "%s is out of range; write %s to %s", b, minBuffer, maxBuffer)
	}
}

func (c *checker) positive(path string, n int) {
	if n <= 0 {
		c.complain(path, "%d is not a limit; write 1 or more", n)
	}
}

// path replaces ~/ and its like in a path that stands in the file.
func (c *checker) path(path string, value *string, mayBeEmpty bool) {
	if !c.given(path) || mayBeEmpty && *value == "" {
		return
	}
	full, err := expandPath(*value, c.env)
	if err != nil {
		c.complain(path, "%w", err)
		return
	}
	*value = full
}
