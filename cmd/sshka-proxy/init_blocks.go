package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// canPassFD tells whether ssh takes a connection from its ProxyCommand here.
const canPassFD = runtime.GOOS != "windows"

// blocks are what a person copies into other programs' settings.
type blocks struct {
	hosts    []string // the relay's own host, as ssh's Host line names it
	patterns []string // the same of what is behind it
	own      sshd     // that host's own, as the relay calls it; its port may be %p
	program  string   // sshka-proxy, as ssh finds it
	config   string   // a configuration that is not in its place, or ""
	fdpass   bool     // a daemon runs
	socks    string   // the daemon's address, HOST:PORT
	login    string   // the user's name that it wants, or ""
	service  service
}

// text is all of it.
func (b *blocks) text() string {
	return strings.Join([]string{b.sshBlock(), b.puttyFields(), b.teraTermFields(), b.service.text(b)}, "\n")
}

// command is a command line of the program for a shell or a service.
func (b *blocks) command(quote func(string) string, args string) string {
	line := quote(b.program)
	if b.config != "" {
		line += " --config " + quote(b.config)
	}
	return line + " " + args
}

// sshBlock is for ssh_config(5).
func (b *blocks) sshBlock() string {
	var s strings.Builder
	s.WriteString("# OpenSSH: ~/.ssh/config, above any \"Host *\". ServerAliveInterval 0: ssh's own probes\n" +
		"# would end a connection that sshka-proxy keeps.\n\n" +
		"# The relay's host itself, by what the relay calls it.\n")
	host := func(names []string, operands string) {
		fmt.Fprintf(&s, "Host %s\n    ProxyCommand %s\n    ServerAliveInterval 0\n", strings.Join(names, " "), b.command(quoteSSH, operands))
	}
	host(b.hosts, b.own.address+" "+b.own.port)
	s.WriteString("\n# Hosts behind it that relay.allow lists there: put your own pattern here.\n")
	host(b.patterns, "%h %p")
	if b.fdpass {
		s.WriteString("\n# A daemon runs here. With it no process stays beside each ssh, if you write instead:\n")
		fmt.Fprintf(&s, "#     ProxyCommand %s\n#     ProxyUseFdpass yes\n", b.command(quoteSSH, "--fdpass %h %p"))
	}
	s.WriteString("\n# So much for ~/.ssh/config. What follows belongs elsewhere.\n")
	return s.String()
}

// socksAddress is the daemon's, in two parts.
func (b *blocks) socksAddress() (host, port string) {
	host, port, err := net.SplitHostPort(b.socks)
	if err != nil {
		return b.socks, ""
	}
	return host, port
}

func (b *blocks) puttyFields() string {
	host, port := b.socksAddress()
	login := ""
	if b.login != "" {
		login = fmt.Sprintf("#   Connection > Proxy > Username                         %s, and its password\n", b.login)
	}
	return fmt.Sprintf(`# PuTTY, while the daemon runs (below):
#   Connection > Proxy > Proxy type                       SOCKS 5
#   Connection > Proxy > Proxy hostname, Port             %s, %s
#   Connection > Proxy > Do DNS name lookup at proxy end  Yes
%s#   Connection > Seconds between keepalives               0
`, host, port, login)
}

func (b *blocks) teraTermFields() string {
	host, port := b.socksAddress()
	return fmt.Sprintf(`# Tera Term, while the daemon runs:
#   Setup > Proxy                                         SOCKS, %s, port %s; names are resolved by the proxy
#   Setup > SSH > HeartBeat(keep-alive)                   0
`, host, port)
}

// hostPatterns are what a Host line says for the names that a relay allows.
func hostPatterns(allow []string) []string {
	var patterns []string
	for _, a := range allow {
		if strings.ContainsAny(a, "/[") { // an address: ssh compares names
			continue
		}
		if name, _, ok := strings.Cut(a, ":"); ok && name != "localhost" && strings.Trim(name, "*?") != "" {
			patterns = append(patterns, name)
		}
	}
	if len(patterns) == 0 {
		return []string{"*.internal"}
	}
	return patterns
}

// programName is this program as ssh finds it: by its name where PATH leads to it,
// else by its path.
func programName() string {
	self, err := os.Executable()
	if err != nil {
		return "sshka-proxy"
	}
	if found, err := exec.LookPath("sshka-proxy"); err == nil && sameFile(found, self) {
		return "sshka-proxy"
	}
	return self
}

func sameFile(a, b string) bool {
	infoA, err := os.Stat(a)
	if err != nil {
		return false
	}
	infoB, err := os.Stat(b)
	return err == nil && os.SameFile(infoA, infoB)
}

// programPath is this program for whatever has a PATH of its own.
func programPath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	if self, err := os.Executable(); err == nil {
		return self
	}
	return name
}

// plainCharacters need no quoting anywhere.
const plainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/:@,="

// quoteSSH quotes a word of a ProxyCommand, which ssh expands and a shell reads.
func quoteSSH(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if runtime.GOOS == "windows" {
		if strings.Trim(word, plainCharacters+`\%`) == "" {
			return word
		}
		return `"` + word + `"`
	}
	if strings.Trim(word, plainCharacters+"%") == "" {
		return word
	}
	return quoteShell(word)
}

// quoteShell quotes a word for a POSIX shell.
func quoteShell(word string) string {
	if word != "" && strings.Trim(word, plainCharacters) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
