package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// there is what was found on the relay's host. All of it has been checked: it came
// from over there.
type there struct {
	system    string // as uname has it, for a person
	os, arch  string // as Go has them; "" where that is not known
	user      string
	home      string
	sshd      sshd
	root      string // "yes", "sudo" (without a question) or "no"
	systemd   bool
	manager   bool // systemd's for the user
	listens   bool // somebody does on the relay's port
	programs  map[string]string
	runs      bool
	place     string // of the relay's program, as places.sh calls it
	config    string // of its configuration: user, system, none
	installed string // the version that is where we would put it, or ""
}

// The systems and machines of uname, as Go calls them.
var (
	systems  = map[string]string{"Linux": "linux", "Darwin": "darwin", "FreeBSD": "freebsd", "NetBSD": "netbsd", "OpenBSD": "openbsd"}
	machines = map[string]string{
		"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm", "armv6l": "arm",
		"i386": "386", "i686": "386", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x",
	}
)

// look finds out what there is on the other side. mode is where a relay would be put.
func (r *remote) look(ctx context.Context, mode string) (*there, error) {
	said, err := r.run(ctx, "look", nil)
	if err != nil {
		return nil, err
	}
	h := &there{
		system: shown(said.first("os") + " " + said.first("arch")),
		os:     systems[said.first("os")], arch: machines[said.first("arch")],
		user: said.first("user"), home: said.first("home"), root: said.first("root"),
		systemd: said.has("systemd"), manager: said.has("manager"), listens: said.has("listens"),
		programs: make(map[string]string),
	}
	h.sshd = parseSSHD(said.first("sshd"))
	switch {
	case !slices.Contains([]string{"yes", "sudo", "no"}, h.root):
		return nil, fmt.Errorf("%s says nonsense about itself: root %q", r.host, shown(h.root))
	case !strings.HasPrefix(h.home, "/") || shown(h.home) != h.home:
		return nil, fmt.Errorf("%s says nonsense about itself: its home directory is %q", r.host, shown(h.home))
	case h.user == "" || strings.Trim(h.user, userCharacters) != "":
		return nil, fmt.Errorf("%s says nonsense about itself: its user is %q", r.host, shown(h.user))
	}
	for _, line := range said["program"] {
		place, version, _ := strings.Cut(line, " ")
		if isPlace(place) {
			h.programs[place] = relayVersion(version)
		}
	}
	h.installed = h.programs[placeOf(mode)]
	for _, line := range said["runs"] {
		place, config, _ := strings.Cut(line, " ")
		if isPlace(place) && slices.Contains([]string{"user", "system", "none"}, config) {
			h.runs, h.place, h.config = true, place, config
			break
		}
	}
	return h, nil
}

// sshd is the one that let us in, as its own host has it. Empty: not known.
type sshd struct{ address, port string }

// parseSSHD reads ADDRESS PORT.
func parseSSHD(s string) sshd {
	address, port, _ := strings.Cut(s, " ")
	ip, err := netip.ParseAddr(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 {
		return sshd{}
	}
	return sshd{ip.Unmap().WithZone("").String(), strconv.FormatUint(n, 10)}
}

// placeOf is where a relay of a mode has its program.
func placeOf(mode string) string {
	if mode == modeSystem {
		return "local"
	}
	return "home"
}

func isPlace(s string) bool { return slices.Contains([]string{"home", "own", "local", "usr"}, s) }

// relayVersion reads what sshka-relay --version prints, "" if it is nothing of the
// kind.
func relayVersion(s string) string {
	version, ok := strings.CutPrefix(strings.TrimSpace(s), "sshka-relay ")
	if !ok || version == "" || strings.Trim(version, plainCharacters) != "" || len(version) > 100 {
		return ""
	}
	return version
}

// describe is one line for a person.
func (h *there) describe() string {
	words := []string{h.system}
	switch {
	case h.systemd && h.manager:
		words = append(words, "systemd")
	case h.systemd:
		words = append(words, "systemd without a manager for "+h.user)
	default:
		words = append(words, "no systemd")
	}
	switch h.root {
	case "yes":
		words = append(words, "root")
	case "sudo":
		words = append(words, "sudo without a password")
	}
	return strings.Join(words, ", ")
}

// fits fails where nothing can be installed.
func (h *there) fits(mode, port string) error {
	switch {
	case h.runs:
		return nil
	case h.listens:
		return fmt.Errorf("something listens on TCP %s there that %s may not ask, or that is no sshka-relay: "+
			"if it is another user's relay or a system's, log in as whoever may ask it; else choose another --port", port, h.user)
	case mode == modeSystem && h.root == "no":
		return fmt.Errorf("--system needs root or sudo without a password for %s; leave --system out for a relay of that user's own", h.user)
	case mode == modeSystem && !h.systemd:
		return errors.New("--system needs systemd there; leave --system out for a relay of the user's own")
	}
	return nil
}
