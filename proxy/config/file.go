package config

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// File is a configuration: what a file says, and the defaults for what it does
// not say. config.example.yaml shows every key.
type File struct {
	// Proxy is for sshka-proxy.
	Proxy Proxy `yaml:"proxy"`
	// Relay is for sshka-relay.
	Relay Relay `yaml:"relay"`

	name      string
	positions map[string]Position // of every key that stands in the file, by path
}

// Proxy is the section of sshka-proxy.
type Proxy struct {
	// Relay is HOST:PORT, RelayDirect or RelayEmbedded. Empty: not set.
	Relay string `yaml:"relay"`
	// Fallback is what a new session does when the relay cannot be reached.
	Fallback Fallback `yaml:"fallback"`
	// KnownRelays is the file of relays and their keys. Empty only as a default
	// where $HOME is not set.
	KnownRelays string `yaml:"known_relays"`
	// Trust is how the relay is known.
	Trust Trust `yaml:"trust"`
	// Identity lists where keys come from, in order: IdentityAgent or files, which
	// need not exist.
	Identity []string `yaml:"identity"`
	// Socket is the daemon's unix socket. Empty: none.
	Socket string `yaml:"socket"`
	// Listen are the daemon's addresses for SOCKS and HTTP CONNECT, loopback only
	// without AllowRemote.
	Listen []string `yaml:"listen"`
	// AllowRemote lets Listen and Forwards be more than loopback.
	AllowRemote bool `yaml:"allow_remote"`
	// SocksUser is what clients of Listen must know. Zero: nothing.
	SocksUser Login `yaml:"socks_user"`
	// AllowOtherUsers lets other users of this machine use Listen and Forwards.
	AllowOtherUsers bool `yaml:"allow_other_users"`
	// Forwards are the daemon's ports that lead to one target each.
	Forwards []Forward `yaml:"forwards"`
	// Heartbeat is how the proxy beats.
	Heartbeat Heartbeat `yaml:"heartbeat"`
	// Session is about every session.
	Session Session `yaml:"session"`
	// Link is about the link to the relay.
	Link Link `yaml:"link"`
	// Admin is the daemon's address for metrics, health and the status page. Empty:
	// none.
	Admin string `yaml:"admin"`
	// Log is how the proxy logs.
	Log Log `yaml:"log"`
}

// Forward is a port here that leads to one target.
type Forward struct {
	// Listen is [HOST]:PORT, loopback only.
	Listen string `yaml:"listen"`
	// Target is HOST:PORT, as the relay sees it.
	Target string `yaml:"target"`
}

// IdentityAgent stands for the keys of the ssh agent.
const IdentityAgent = "agent"

// Relay is the section of sshka-relay.
type Relay struct {
	// Listen are the addresses for links, [HOST]:PORT, at least one.
	Listen []string `yaml:"listen"`
	// Key is the file of the relay's own key. Empty: relay_key under State.
	Key string `yaml:"key"`
	// State is the directory of what the relay remembers. Empty: the place for
	// whoever runs it.
	State string `yaml:"state"`
	// AuthorizedKeys is the file of keys that may use the relay. Empty: the place
	// for whoever runs it.
	AuthorizedKeys string `yaml:"authorized_keys"`
	// AuthorizedKeysCommand is a program, and its arguments, that knows more such
	// keys; see keyauth.CheckCommand. Empty: none.
	AuthorizedKeysCommand []string `yaml:"authorized_keys_command"`
	// Allow and Deny are the entries of a relay.Policy; both have been parsed once.
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
	// TargetKeepalive is the kernel's keepalive towards targets. Zero: off.
	TargetKeepalive Duration `yaml:"target_keepalive"`
	// Heartbeat is how the relay beats.
	Heartbeat Heartbeat `yaml:"heartbeat"`
	// Session is about every session.
	Session RelaySession `yaml:"session"`
	// Limits bound what others may take.
	Limits Limits `yaml:"limits"`
	// Drain is how long a relay that is told to end waits for its sessions, taking no
	// new ones. Zero: not at all.
	Drain Duration `yaml:"drain"`
	// Admin is the address for metrics, health and the status page. Empty: none.
	Admin string `yaml:"admin"`
	// Log is how the relay logs.
	Log Log `yaml:"log"`
}

// Heartbeat is when to beat and when a peer is lost.
type Heartbeat struct {
	// Interval is the longest silence before a beat. Zero: no beats.
	Interval Duration `yaml:"interval"`
	// Timeout is how long an answer may take.
	Timeout Duration `yaml:"timeout"`
	// CountMax is how many misses in a row lose the link. Zero: never.
	CountMax int `yaml:"count_max"`
}

// Session is about every session.
type Session struct {
	// Buffer is the most that is kept for replay, and the most that is stored for
	// a slow application, in each direction.
	Buffer Size `yaml:"buffer"`
}

// Link is about the link to a relay.
type Link struct {
	// MaxAge is how old it may get before another replaces it. Zero: as old as it
	// likes.
	MaxAge Duration `yaml:"max_age"`
}

// RelaySession is about every session at a relay.
type RelaySession struct {
	// Buffer is as in Session.
	Buffer Size `yaml:"buffer"`
	// Window is how long a session is kept whose link is lost. Zero: it ends with
	// its link.
	Window Duration `yaml:"window"`
}

// Limits bound what others may take from a relay.
type Limits struct {
	// Links is how many links there are at a time.
	Links int `yaml:"links"`
	// Handshakes is how many links are being authenticated at a time.
	Handshakes int `yaml:"handshakes"`
	// HandshakeTimeout bounds TLS and HELLO together.
	HandshakeTimeout Duration `yaml:"handshake_timeout"`
	// LinksPerKey is how many links one key has at once.
	LinksPerKey int `yaml:"links_per_key"`
	// OpensPerSecond is how many sessions one key opens in the long run.
	OpensPerSecond int `yaml:"opens_per_second"`
	// DialsPerKey is how many targets one key has dialled at once.
	DialsPerKey int `yaml:"dials_per_key"`
	// SessionsPerLink is how many sessions one link carries.
	SessionsPerLink int `yaml:"sessions_per_link"`
	// SessionsPerKey is how many sessions one key holds, those included whose link
	// is lost.
	SessionsPerKey int `yaml:"sessions_per_key"`
	// Memory is how many bytes all sessions hold, a quarter of them one key's.
	Memory Memory `yaml:"memory"`
}

// Log is what is logged and how.
type Log struct {
	// Level is the least that is logged.
	Level Level `yaml:"level"`
	// Format is how a line looks.
	Format Format `yaml:"format"`
}

// Defaults returns the configuration of an empty file, before ~/ is replaced.
func Defaults() *File {
	log := Log{Level: Level(slog.LevelInfo), Format: FormatAuto}
	return &File{
		Proxy: Proxy{
			Fallback:    FallbackNone,
			KnownRelays: "~/.config/sshka/known_relays",
			Trust:       Trust{AcceptNew: true},
			Identity:    []string{IdentityAgent, "~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"},
			Socket:      defaultSocket,
			Listen:      []string{"127.0.0.1:1080"},
			Heartbeat:   Heartbeat{Interval: seconds(20), Timeout: seconds(5), CountMax: 3},
			Session:     Session{Buffer: 4 * MiB},
			Admin:       "127.0.0.1:9470",
			Log:         log,
		},
		Relay: Relay{
			Listen:          []string{":" + DefaultPort},
			Allow:           []string{"localhost:22", "*:22"},
			TargetKeepalive: seconds(20),
			Heartbeat:       Heartbeat{Interval: seconds(60), Timeout: seconds(15), CountMax: 3},
			Session:         RelaySession{Buffer: 4 * MiB, Window: seconds(24 * 3600)},
			Limits:          Limits{Links: 10000, Handshakes: 256, HandshakeTimeout: seconds(10), LinksPerKey: 1024, OpensPerSecond: 100, DialsPerKey: 128, SessionsPerLink: 1024, SessionsPerKey: 1024},
			Admin:           "127.0.0.1:9471",
			Log:             log,
		},
	}
}

// defaultSocket is where the daemon listens for ProxyCommands, and fallbackSocket
// where the system has no place for what lives as long as a login.
const (
	defaultSocket  = "$XDG_RUNTIME_DIR/sshka/proxy.sock"
	fallbackSocket = "~/.cache/sshka/proxy.sock"
)

func seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// Name returns the name of the file that was read. Empty: none, all defaults.
func (f *File) Name() string { return f.name }

// At returns where the key of a path such as "proxy.relay" or "relay.allow[2]"
// stands. For a key that is not in the file it is where its nearest parent
// stands, else the file alone.
func (f *File) At(path string) Position {
	for path != "" {
		if p, ok := f.positions[path]; ok {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return Position{File: f.name}
}

// Given reports whether the key of a path stands in the file.
func (f *File) Given(path string) bool {
	_, ok := f.positions[path]
	return ok
}

// Errorf complains about the key of a path, for layers that find out later. A
// %w in the format is what the error unwraps to.
func (f *File) Errorf(path, format string, args ...any) *Error {
	p := f.At(path)
	err := fmt.Errorf(format, args...)
	return &Error{File: p.File, Line: p.Line, Column: p.Column, Key: path, Msg: err.Error(), Err: err}
}
