package config

import (
	"net/netip"
	"path/filepath"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/relay"
	"github.com/sshka/sshka-proxy/proxy/transport"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// Places are a relay's files.
type Places struct {
	// State is the directory of what the relay remembers.
	State string
	// Key is the file of its own key.
	Key string
	// AuthorizedKeys is the file of keys that may use it.
	AuthorizedKeys string
	// System tells that the relay is a system's, started by root or as a service,
	// and not one user's.
	System bool
	// Socket is where a running relay answers its operator. Empty: nowhere.
	Socket string
}

// Places returns where a relay's files are: as the configuration says, else for
// a system service (root, or $STATE_DIRECTORY as systemd sets it) under /var/lib
// and /etc, else under the user's home. The environment is read through env, as
// by os.Getenv.
func (f *File) Places(env func(string) string, root bool) (Places, error) {
	r := &f.Relay
	service := env("STATE_DIRECTORY")
	p := Places{State: r.State, Key: r.Key, AuthorizedKeys: r.AuthorizedKeys, System: service != "" || root}
	home := homeDir(env, windows)
	if p.State == "" {
		switch {
		case service != "":
			p.State = service
		case root:
			p.State = "/var/lib/sshka"
		case windows && env("LOCALAPPDATA") != "":
			p.State = UserState(env, "")
		case home != "":
			p.State = filepath.Join(home, ".local/state/sshka")
		case p.Key == "":
			return p, f.Errorf("relay.state", "is not set and $HOME is neither; name a directory")
		}
	}
	if p.State != "" {
		p.Socket = filepath.Join(p.State, "relay.sock")
	}
	if p.Key == "" {
		p.Key = filepath.Join(p.State, "relay_key")
	}
	if p.AuthorizedKeys == "" {
		switch {
		case p.System:
			p.AuthorizedKeys = "/etc/sshka/authorized_keys"
		case home != "":
			p.AuthorizedKeys = filepath.Join(home, ".ssh/authorized_keys")
		default:
			return p, f.Errorf("relay.authorized_keys", "is not set and $HOME is neither; name a file")
		}
	}
	return p, nil
}

// Server returns what the relay section says, for a relay with this key that
// listens on the addresses, with agent as the program's name for proxies' logs.
func (f *File) Server(agent string, key *transport.RelayKey, who keyauth.Authorizer, listen func() []netip.AddrPort) (relay.Config, error) {
	r := &f.Relay
	policy, err := relay.ParsePolicy(r.Allow, r.Deny)
	if err != nil {
		return relay.Config{}, err // was parsed before: cannot happen
	}
	return relay.Config{
		Transport: &transport.Server{
			Key:         key,
			Verifier:    &keyauth.Verifier{Authorizer: who},
			Hello:       wire.Hello{Agent: agent},
			UserTimeout: r.Heartbeat.userTimeout(),
		},
		Dialer: &relay.Dialer{
			Policy:    policy,
			Keepalive: time.Duration(r.TargetKeepalive),
			Listen:    listen,
		},
		Heartbeat: r.Heartbeat.Policy(),
		Buffer:    int(r.Session.Buffer),
		Window:    time.Duration(r.Session.Window),
		Limits: relay.Limits{
			Links:            r.Limits.Links,
			Handshakes:       r.Limits.Handshakes,
			HandshakeTimeout: time.Duration(r.Limits.HandshakeTimeout),
			LinksPerKey:      r.Limits.LinksPerKey,
			OpensPerSecond:   r.Limits.OpensPerSecond,
			DialsPerKey:      r.Limits.DialsPerKey,
			SessionsPerLink:  r.Limits.SessionsPerLink,
			SessionsPerKey:   r.Limits.SessionsPerKey,
			Memory:           int64(r.Limits.Memory),
		},
	}, nil
}
