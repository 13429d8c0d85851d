package main

import (
	"fmt"
	"html"
	"os"
	"runtime"
	"strings"

	"github.com/sshka/sshka-proxy/deploy"
)

// service is what keeps the daemon running on a machine.
type service string

const (
	serviceSystemd service = "systemd"
	serviceLaunchd service = "launchd"
	serviceWindows service = "a logon task"
	serviceNone    service = "" // nothing that is known here
)

// serviceHere is this machine's.
func serviceHere() service {
	switch runtime.GOOS {
	case "darwin":
		return serviceLaunchd
	case "windows":
		return serviceWindows
	case "linux":
		if _, err := os.Stat("/run/systemd/system"); err == nil { // sd_booted(3)
			return serviceSystemd
		}
	}
	return serviceNone
}

// text is how the daemon is kept running.
func (s service) text(b *blocks) string {
	switch s {
	case serviceSystemd:
		return b.systemdLines()
	case serviceLaunchd:
		return b.launchdLines()
	case serviceWindows:
		return b.windowsLines()
	default:
		return b.plainLines()
	}
}

// absolute is b for a service, which has a PATH of its own.
func (b *blocks) absolute() *blocks {
	c := *b
	c.program = programPath(b.program)
	return &c
}

func (b *blocks) systemdLines() string {
	return "# The daemon, which keeps one link up for every ssh and serves PuTTY and TeraTerm:\n" +
		"# ~/.config/systemd/user/sshka-proxy.service\n" +
		withoutComments(unit(deploy.UserProxyUnit, "ExecStart=/usr/bin/sshka-proxy serve\n", "ExecStart="+b.absolute().command(quoteSystemd, "serve")+"\n")) + `
# then: systemctl --user daemon-reload && systemctl --user enable --now sshka-proxy
# if your key is in an agent only: systemctl --user import-environment SSH_AUTH_SOCK
`
}

// withoutComments is a unit as somebody copies it.
func withoutComments(unit string) string {
	var s strings.Builder
	for line := range strings.Lines(unit) {
		if !strings.HasPrefix(line, "#") {
			s.WriteString(line)
		}
	}
	return s.String()
}

func (b *blocks) launchdLines() string {
	a := b.absolute()
	words := []string{a.program}
	if a.config != "" {
		words = append(words, "--config", a.config)
	}
	var arguments strings.Builder
	for _, w := range append(words, "serve") {
		fmt.Fprintf(&arguments, "<string>%s</string>", html.EscapeString(w))
	}
	return fmt.Sprintf(`# The daemon, which keeps one link up for every ssh and serves PuTTY and TeraTerm:
# ~/Library/LaunchAgents/sshka-proxy.plist
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
  <key>Label</key><string>sshka-proxy</string>
  <key>ProgramArguments</key><array>%s</array>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
</dict></plist>

# then: launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/sshka-proxy.plist
`, arguments.String())
}

func (b *blocks) windowsLines() string {
	// The command line stands in quotes of its own, whose own quotes schtasks wants escaped.
	line := b.absolute().command(func(w string) string { return `\"` + w + `\"` }, "serve")
	return fmt.Sprintf(`# The daemon, which keeps one link up for every ssh and serves PuTTY and TeraTerm. In a
# command prompt of an administrator:
schtasks /Create /TN sshka-proxy /SC ONLOGON /TR "%s"
schtasks /Run /TN sshka-proxy
`, line)
}

func (b *blocks) plainLines() string {
	return fmt.Sprintf(`# The daemon, which keeps one link up for every ssh and serves PuTTY and TeraTerm. No
# service manager is known here: start it at login as this system does such things:
%s
`, b.absolute().command(quoteShell, "serve"))
}

// quoteSystemd quotes a word of ExecStart= (systemd.service(5), "Command lines").
func quoteSystemd(word string) string {
	word = strings.NewReplacer("%", "%%", "$", "$$").Replace(word)
	if strings.Trim(word, plainCharacters+"%$") == "" {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}
