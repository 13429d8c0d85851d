package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sshka/sshka-proxy/proxy/config"
)

// destination is the operand of init: where ssh goes, and the relay that is there.
type destination struct {
	user string // "": as ssh has it
	host string // as a person writes it, an alias of ssh_config perhaps
	name string // as ssh calls it
	port string
	// relay is HOST:PORT.
	relay string
}

// userCharacters are those of an account's name, a domain's included.
const userCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+@\\"

// parseDestination reads [USER@]HOST[:PORT]; port is that of --port, or "".
func parseDestination(s, port string) (destination, error) {
	d := destination{host: s}
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		d.user, d.host = s[:at], s[at+1:]
		if d.user == "" || d.user[0] == '-' || strings.Trim(d.user, userCharacters) != "" {
			return d, fmt.Errorf("%q is not a user's name", d.user)
		}
	}
	switch {
	case d.host == config.RelayDirect, d.host == config.RelayEmbedded:
		return d, fmt.Errorf("%q is not a host; for a relay of that kind write relay: %s into the configuration", d.host, d.host)
	case strings.HasPrefix(d.host, "-"):
		return d, fmt.Errorf("%q is not a host", d.host) // ssh would take it for an option
	}
	address, err := config.ParseRelay(d.host)
	if err != nil {
		return d, errors.New(strings.TrimSuffix(err.Error(), ", direct or embedded"))
	}
	given := address == d.host // the port stands there
	if d.host, d.port, err = net.SplitHostPort(address); err != nil {
		return d, err
	}
	if port != "" {
		if given && port != d.port {
			return d, fmt.Errorf("%s says port %s and --port says %s: leave one out", s, d.port, port)
		}
		d.port = port
	}
	return d, d.named("")
}

// named takes the name by which ssh reaches the host. Empty: the one that was given.
func (d *destination) named(name string) error {
	d.name = d.host
	if name != "" {
		d.name = name
	}
	relay, err := config.ParseRelay(net.JoinHostPort(d.name, d.port))
	if err != nil {
		return err
	}
	d.relay = relay
	return nil
}

// destination is ssh's operand.
func (d *destination) destination() string {
	if d.user == "" {
		return d.host
	}
	return d.user + "@" + d.host
}

// names are the host's, for a Host line of ssh_config.
func (d *destination) names() []string { return slices.Compact([]string{d.host, d.name}) }
