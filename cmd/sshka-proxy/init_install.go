package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
	"github.com/sshka/sshka-proxy/proxy"
	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// The modes of a relay: one user's, or the system's.
const (
	modeUser   = "user"
	modeSystem = "system"
)

// How long a relay stays that does not stay for good, as start.sh says it.
const (
	untilLogout = "until logout"
	untilReboot = "until reboot"
)

// steps is how many there are.
const steps = 7

// installation is one run of init --install.
type installation struct {
	*initialiser

	mode   string
	remote *remote
	there  *there
	done   []string // what is there already, for a person whose next step failed
}

// step is one of them: it returns what it did, for a person.
type step struct {
	doing string
	do    func(ctx context.Context) (string, error)
}

// install sets the relay up and goes all the way to it.
func (i *initialiser) install(ctx context.Context) error {
	if path, exists := i.configPath(); exists { // before anything is done over there
		if _, err := i.configure(); err != nil {
			return err
		}
		i.ui.notice("%s has the relay %s already", path, i.to.relay)
	}
	r, err := newRemote(i.to, i.ssh, console.IsTerminal(os.Stdin), i.ui.err)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	defer r.close()
	n := &installation{initialiser: i, mode: modeUser, remote: r}
	if i.options.system {
		n.mode = modeSystem
	}
	r.variables["port"], r.variables["mode"], r.variables["top"] = i.to.port, n.mode, i.top
	for k, s := range []step{
		{"log in by ssh and look", n.look},
		{"the relay's program", n.program},
		{"the relay's configuration", n.relayConfig},
		{"start the relay", n.start},
		{"the relay's fingerprint", n.fingerprint},
		{"check the way there", n.check},
	} {
		done := n.waits(k+1, s.doing)
		said, err := s.do(ctx)
		done()
		if err != nil {
			return n.stopped(k+1, s.doing, err)
		}
		fmt.Fprintf(i.ui.err, "%d/%d %s\n", k+1, steps, said)
	}
	fmt.Fprintf(i.ui.err, "%d/%d done; what follows is for ssh and its like\n", steps, steps)
	_, err = io.WriteString(i.out, "\n"+i.blocks(ctx, n.there.sshd).text())
	return err
}

// waits tells a person at a terminal what a step is doing that takes long. While ssh
// may ask for something, that is a line of its own: nothing is drawn over a question.
func (n *installation) waits(k int, doing string) (done func()) {
	if k > 1 && runtime.GOOS != "windows" { // the login is shared from then on
		return n.ui.err.Wait(fmt.Sprintf("%d/%d %s", k, steps, doing))
	}
	if k == 1 && n.ui.err.Terminal {
		n.ui.notice("logging in to %s by ssh", n.to.destination())
	}
	return func() {}
}

// stopped is why the installation ended, what is there, and how to go on.
func (n *installation) stopped(k int, doing string, err error) error {
	have := "nothing is changed there"
	if len(n.done) > 0 {
		have = "there already: " + strings.Join(n.done, ", ")
	}
	return fmt.Errorf("init, %d/%d, %s: %s; %s; init again goes on from there", k, steps, doing, strings.ReplaceAll(err.Error(), "\n", "; "), have)
}

// look finds out what there is.
func (n *installation) look(ctx context.Context) (string, error) {
	var err error
	if n.there, err = n.remote.look(ctx, n.mode); err != nil {
		return "", err
	}
	if err := n.there.fits(n.mode, n.to.port); err != nil {
		return "", err
	}
	// The scripts of the system's relay run as root, with the user's home.
	n.remote.sudo = n.mode == modeSystem && n.there.root == "sudo" && !n.there.runs
	n.remote.variables["home"] = n.there.home
	n.remote.variables["root"] = n.there.root
	if n.remote.sudo {
		n.remote.variables["root"] = "yes"
	}
	said := fmt.Sprintf("ssh %s works: %s", n.to.destination(), n.there.describe())
	if n.there.runs {
		version := n.there.programs[n.there.place]
		said += "; sshka-relay " + version + " runs there and is not touched"
		if version != proxy.Version {
			said += " (this program is " + proxy.Version + ")"
		}
		n.done = append(n.done, "a running relay")
	}
	return said, nil
}

// program brings the relay's program there.
func (n *installation) program(ctx context.Context) (string, error) {
	if n.there.runs {
		return "the relay's program is kept", nil
	}
	n.there.place, n.there.config = placeOf(n.mode), n.mode
	where := "~/.local/bin/sshka-relay"
	if n.mode == modeSystem {
		where = "/usr/local/bin/sshka-relay"
	}
	if n.there.installed == proxy.Version && n.options.binary == "" {
		n.done = append(n.done, where)
		return fmt.Sprintf("%s %s is there", where, n.there.installed), nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path, err := relayBinary(n.options.binary, n.there.os, n.there.arch, self)
	if err != nil {
		return "", err
	}
	version, err := n.remote.send(ctx, path, n.mode)
	if err != nil {
		return "", err
	}
	n.done = append(n.done, where)
	said := fmt.Sprintf("%s %s is copied", where, version)
	if n.there.installed != "" {
		said += ", in the place of " + n.there.installed
	}
	return said, nil
}

// relayConfig writes the relay's configuration.
func (n *installation) relayConfig(ctx context.Context) (string, error) {
	if n.there.runs {
		return "the relay's configuration is kept", nil
	}
	said, err := n.remote.run(ctx, "configure", map[string]string{
		"place": n.there.place,
		"text":  relayConfiguration(n.mode, n.to.port, n.allow()),
	})
	if err != nil {
		return "", err
	}
	where := "~/.config/sshka/relay.yaml"
	if n.mode == modeSystem {
		where = "/etc/sshka/relay.yaml"
	}
	n.done = append(n.done, where)
	if said.first("config") == "kept" {
		return where + " is there and is kept as it is", nil
	}
	return where + " is written: it allows " + strings.Join(n.allow(), ", "), nil
}

// allow is what the relay may reach: its own host's sshd, and what a person asks for.
func (n *installation) allow() []string {
	allow := []string{"localhost:22"}
	if port := n.there.sshd.port; port != "" && port != "22" {
		allow[0] = "localhost:" + port
	}
	for _, a := range n.options.allow {
		if !slices.Contains(allow, a) {
			allow = append(allow, a)
		}
	}
	return allow
}

// start starts the relay.
func (n *installation) start(ctx context.Context) (string, error) {
	if n.there.runs {
		return "the relay runs", nil
	}
	manager := "none"
	switch {
	case n.mode == modeSystem:
		manager = modeSystem
	case n.there.manager:
		manager = modeUser
	}
	said, err := n.remote.run(ctx, "start", map[string]string{"place": n.there.place, "manager": manager, "unit": relayUnit(n.mode)})
	if err != nil {
		return "", err
	}
	n.done = append(n.done, "the relay, which runs")
	text, stays := "the relay runs", said.first("stays")
	if manager != "none" && stays != untilReboot {
		text += " as a unit of systemd"
		if said.first("unit") == "kept" {
			text += ", which was there"
		}
	}
	if said.has("by_sudo") {
		text += fmt.Sprintf("; sudo has switched on lingering for %s, so that it does without a login", n.there.user)
	}
	// What ends it at a logout or a reboot is that units of a user need a login where
	// the user may not linger (loginctl(1)).
	toStay := fmt.Sprintf("sudo loginctl enable-linger %s && systemctl --user enable sshka-relay", n.there.user)
	switch stays {
	case untilLogout:
		text += fmt.Sprintf("; it ends when %s logs out; to keep it, run there: %s", n.there.user, toStay)
	case untilReboot:
		text += ", without a service manager: it does not come back after a reboot"
		if manager == modeUser {
			text += "; if it is to, run there: " + toStay
		}
	}
	return text, nil
}

// fingerprint fetches the name of the relay's key over ssh, which is trusted already,
// and records it: no first use is to be trusted.
func (n *installation) fingerprint(ctx context.Context) (string, error) {
	said, err := n.remote.run(ctx, "fingerprint", map[string]string{"place": n.there.place, "config": n.there.config})
	if err != nil {
		return "", err
	}
	key := said.first("fingerprint")
	if err := transport.ParseFingerprint(key); err != nil {
		return "", fmt.Errorf("sshka-relay fingerprint printed %q: %w", shown(key), err)
	}
	written, err := n.configure()
	if err != nil {
		return "", err
	}
	text, err := recordRelay(n.file, n.to.relay, key)
	if err != nil {
		return "", err
	}
	if written {
		text += "; " + n.file.Name() + " is written"
	}
	return text, nil
}

// recordRelay makes the fingerprint the relay's in known_relays, where no other is.
func recordRelay(file *config.File, relay, key string) (string, error) {
	if pins := file.Proxy.Trust.Pins; len(pins) > 0 {
		if slices.Contains(pins, key) {
			return key + ", as the configuration wants it", nil
		}
		return "", fmt.Errorf("the relay's key is %s, the configuration wants %s: change proxy.trust in %s", key, strings.Join(pins, " or "), file.At("proxy.trust"))
	}
	known := &transport.KnownRelays{Path: file.Proxy.KnownRelays}
	if known.Path == "" {
		return "", errors.New("record relay: known_relays is not set")
	}
	fresh := false
	for range 2 { // what another process recorded meanwhile counts
		pins, err := known.Lookup(relay)
		if err != nil {
			return "", err
		}
		for _, p := range pins {
			if p.Fingerprint == key {
				if fresh {
					return key + " is now in " + known.Path, nil
				}
				return fmt.Sprintf("%s, as %s:%d has it", key, known.Path, p.Line), nil
			}
		}
		if len(pins) > 0 {
			return "", fmt.Errorf("the relay's key is %s, %s:%d has %s for %s: if the relay was set up anew, remove that line", key, known.Path, pins[0].Line, pins[0].Fingerprint, relay)
		}
		if err := known.Add(relay, key); err != nil {
			return "", err
		}
		fresh = true
	}
	return "", fmt.Errorf("record relay: %s changes while it is read", known.Path)
}
