package main

import (
	"fmt"
	"strings"
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
	return fmt.Sprintf(`# sshka-relay, written by sshka-proxy init --install. A change counts from the next start.
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

// userUnit keeps one user's relay running: %h is the home directory.
const userUnit = `[Unit]
Description=sshka-relay, carries ssh for proxies

[Service]
Type=notify
ExecStart=%h/.local/bin/sshka-relay serve --config %h/.config/sshka/relay.yaml
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2s

[Install]
WantedBy=default.target
`

// systemUnit keeps the system's relay running, as a user that exists only while it
// does.
const systemUnit = `[Unit]
Description=sshka-relay, carries ssh for proxies
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
DynamicUser=yes
ExecStart=/usr/local/bin/sshka-relay serve --config /etc/sshka/relay.yaml
ExecReload=/bin/kill -HUP $MAINPID
StateDirectory=sshka
StateDirectoryMode=0700
Restart=on-failure
RestartSec=2s
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`
