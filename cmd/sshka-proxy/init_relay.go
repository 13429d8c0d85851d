package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sshka/sshka-proxy/deploy"
)

// relayConfiguration is what a relay of a mode is told.
func relayConfiguration(mode, port string, allow []string) string {
	state, keys, whose := "~/.local/state/sshka", "~/.ssh/authorized_keys", "whoever may log in to this account by key"
	if mode == modeSystem {
		state, keys, whose = "/var/lib/sshka", "/etc/sshka/authorized_keys", "whoever is listed there"
	}
	quoted := make([]string, 0, len(allow))
	for _, a := range allow {
		quoted = append(quoted, fmt.Sprintf("%q", a))
	}
	return fmt.Sprintf(`# sshka-relay, written by sshka-proxy init --install. SIGHUP makes a change count
# (systemctl reload sshka-relay, with --user for a user's).
# Every key: config.example.yaml of sshka-proxy.

relay:
  listen: [":%s"]

  # The relay's own key and its socket.
  state: %s

  # Who may use the relay: %s.
  authorized_keys: %s

  # Where they get to. localhost is this host by whatever address; names are globs:
  # "*.internal:22".
  allow: [%s]
`, port, state, whose, keys, strings.Join(quoted, ", "))
}

// relayUnit keeps the relay of a mode running: what packages install, with the program
// and the configuration where init puts them.
func relayUnit(mode string) string {
	if mode == modeSystem {
		return unit(deploy.RelayUnit,
			"ExecStart=/usr/bin/sshka-relay ", "ExecStart=/usr/local/bin/sshka-relay ",
			"User=sshka\nGroup=sshka\n", "DynamicUser=yes\n")
	}
	return unit(deploy.UserRelayUnit,
		"ExecStart=/usr/bin/sshka-relay serve\n", "ExecStart=%h/.local/bin/sshka-relay serve --config %h/.config/sshka/relay.yaml\n",
		"# ~/.config/sshka/relay.yaml, else config.yaml; ", "# ~/.config/sshka/relay.yaml; ")
}

// unit is a unit with each old text, which has to be there, replaced by the new one
// that follows it.
func unit(text string, oldNew ...string) string {
	for pair := range slices.Chunk(oldNew, 2) {
		if strings.Count(text, pair[0]) != 1 {
			panic(fmt.Sprintf("the unit does not say %q once", pair[0]))
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	return text
}
