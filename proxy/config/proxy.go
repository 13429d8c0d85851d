package config

import (
	"context"
	"fmt"
	"time"

	"github.com/sshka/sshka-proxy/proxy/client"
	"github.com/sshka/sshka-proxy/proxy/heartbeat"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/notice"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// Client returns what the proxy section says, with agent as the program's name
// for the relay's log. It is not for a relay of RelayDirect, see Direct. The
// environment is read through env, as by os.Getenv.
func (f *File) Client(agent string, env func(string) string) client.Config {
	p := &f.Proxy
	sources := keyauth.Sources{List: p.Identity, AgentSocket: env("SSH_AUTH_SOCK"), Explicit: f.Given("proxy.identity")}
	c := client.Config{
		Dialer: &transport.Dialer{
			Relay: p.Relay,
			Trust: transport.Trust{
				Pins:   p.Trust.Pins,
				Strict: !p.Trust.AcceptNew,
				Known:  &transport.KnownRelays{Path: p.KnownRelays},
			},
			Identities: func(ctx context.Context) (*keyauth.Identities, error) {
				return keyauth.Load(ctx, sources)
			},
			Agent:       agent,
			UserTimeout: p.Heartbeat.userTimeout(),
		},
		Heartbeat: p.Heartbeat.Policy(),
		Buffer:    int(p.Session.Buffer),
		MaxAge:    time.Duration(p.Link.MaxAge),
		Notice:    notice.Watcher{}.Run,
	}
	if p.Fallback == FallbackDirect {
		c.Fallback = f.Direct()
	}
	return c
}

// Direct returns how targets are dialled without a relay.
func (f *File) Direct() *client.Direct {
	return &client.Direct{Keepalive: time.Duration(f.Proxy.Heartbeat.Interval)}
}

// Policy returns the same for a link: 0 in a file is off.
func (h Heartbeat) Policy() heartbeat.Policy {
	p := heartbeat.Policy{
		Interval: time.Duration(h.Interval),
		Timeout:  time.Duration(h.Timeout),
		CountMax: h.CountMax,
	}
	if p.Interval == 0 {
		p.Interval = heartbeat.Off
	}
	if p.CountMax == 0 {
		p.CountMax = heartbeat.Off
	}
	return p
}

// userTimeout is when the kernel gives a link's connection up: later than beats
// do, and the only judge where beats are off or never lose a link.
func (h Heartbeat) userTimeout() time.Duration {
	const least = 5 * time.Minute
	return max(least, h.Policy().DeathTime()+time.Duration(h.Interval)+time.Minute)
}

// SetInterval is for --interval: what the file's heartbeat.interval may be, it
// may be too.
func (h *Heartbeat) SetInterval(d time.Duration) error {
	if d < 0 || d > 0 && d < heartbeat.MinInterval {
		return fmt.Errorf("%v is too short; 0 (off) or at least %v", d, heartbeat.MinInterval)
	}
	h.Interval = Duration(d)
	return nil
}
