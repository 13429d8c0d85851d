package main

import (
	"github.com/sshka/sshka-proxy/cmd/internal/manual"
	"github.com/sshka/sshka-proxy/proxy"
)

// manualPage is what sshka-proxy(1) has beside the commands.
func manualPage() manual.Page {
	return manual.Page{
		Section: 1,
		Version: proxy.Version,
		Synopsis: []string{
			"[flags] HOST PORT",
			"serve [flags]",
			"status [--json] [--watch]",
			"check [HOST [PORT]] [--json]",
			"init [USER@]HOST [flags]",
			"demo",
		},
		Chapters: []manual.Chapter{
			{
				Title: "HOSTS CALLED LIKE COMMANDS",
				Text: "Flags come first. Exactly two operands, the second a number, are HOST and PORT: so a host may be called serve. All else is a command.\n\n" +
					"In this form the program uses the link of a running sshka-proxy serve when its relay and version match, else it opens its own. It listens nowhere. Standard output carries nothing but the target's bytes; standard error gets one line at most, more with -v.",
			},
			{
				Title: "EXIT STATUS",
				Items: []manual.Item{
					{Term: "0", Text: "Done."},
					{Term: "1", Text: "Failed: the relay or the target could not be reached, or the session was reset. Standard error says why."},
					{Term: "2", Text: "A mistake in the command line or in the configuration."},
				},
			},
			{
				Title: "ENVIRONMENT",
				Items: []manual.Item{
					{Term: "SSHKA_CONFIG", Text: "The configuration file, unless --config names one."},
					{Term: "SSHKA_RELAY", Text: "The relay, unless --relay names one."},
					{Term: "SSH_AUTH_SOCK", Text: "The agent whose keys are offered to the relay."},
					{Term: "XDG_CONFIG_HOME, XDG_RUNTIME_DIR, XDG_STATE_HOME", Text: "Where files are, in place of ~/.config, of the user's runtime directory and of ~/.local/state."},
				},
			},
			{
				Title: "FILES",
				Items: []manual.Item{
					{Term: "~/.config/sshka/config.yaml, /etc/sshka/config.yaml", Text: "The configuration: the first that exists. None is fine. config.example.yaml, in the documentation, shows every key with its default."},
					{Term: "~/.config/sshka/known_relays", Text: "The keys of known relays, as known_hosts for ssh."},
					{Term: "$XDG_RUNTIME_DIR/sshka/proxy.sock", Text: "The daemon's socket; ~/.cache/sshka/proxy.sock where that is not set."},
					{Term: "~/.local/state/sshka/last_error", Text: "Why a ProxyCommand failed last."},
				},
			},
			{
				Title: "EXAMPLES",
				Text: "In ssh_config(5), with the relay in the configuration file:\n\n" +
					"  Host *.internal\n      ProxyCommand sshka-proxy %h %p\n      ServerAliveInterval 0\n\n" +
					"Once, with a relay beside the server:\n\n" +
					"  ssh -o ProxyCommand=\"sshka-proxy --relay server.example.com %h %p\" server.example.com\n\n" +
					"What is in the way to a host:\n\n" +
					"  sshka-proxy check db.internal",
			},
			{Title: "SEE ALSO", Text: "sshka-relay(8), ssh(1), ssh_config(5), https://github.com/sshka/sshka-proxy"},
		},
	}
}
