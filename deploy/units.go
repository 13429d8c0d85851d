// Package deploy has the files of this folder that a program needs: what sshka-proxy
// init writes is what packages install.
package deploy

import _ "embed"

// The units of systemd.
var (
	//go:embed systemd/sshka-relay.service
	RelayUnit string // of a system's relay
	//go:embed systemd/user/sshka-relay.service
	UserRelayUnit string // of one user's
	//go:embed systemd/user/sshka-proxy.service
	UserProxyUnit string // of one user's daemon
)
