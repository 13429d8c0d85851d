package main

import (
	"github.com/sshka/sshka-proxy/cmd/internal/manual"
	"github.com/sshka/sshka-proxy/proxy"
)

// manualPage is what sshka-relay(8) has beside the commands.
func manualPage() manual.Page {
	return manual.Page{
		Section: 8,
		Version: proxy.Version,
		Synopsis: []string{
			"serve [flags]",
			"status [--json] [--watch]",
			"end SESSION | end --key SHA256:…",
			"fingerprint",
			"check",
		},
		Chapters: []manual.Chapter{
			{
				Title: "SIGNALS",
				Items: []manual.Item{
					{Term: "SIGTERM, SIGINT", Text: "End, after relay.drain if that is set. A second one ends at once. Sessions live in the relay's memory and end with it."},
					{Term: "SIGHUP", Text: "Read the configuration once more. Sessions and links stay; a configuration with a mistake changes nothing."},
				},
			},
			{
				Title: "EXIT STATUS",
				Items: []manual.Item{
					{Term: "0", Text: "Done; of check: serve would work, and somebody could use it."},
					{Term: "1", Text: "Failed. Standard error says why."},
					{Term: "2", Text: "A mistake in the command line or in the configuration."},
				},
			},
			{
				Title: "ENVIRONMENT",
				Items: []manual.Item{
					{Term: "SSHKA_CONFIG", Text: "The configuration file, unless --config names one."},
					{Term: "STATE_DIRECTORY", Text: "Set by systemd: the relay is the system's, and its state is here."},
				},
			},
			{
				Title: "FILES",
				Text:  "A relay that root or a service manager starts is the system's, any other is its user's.",
				Items: []manual.Item{
					{Term: "~/.config/sshka/relay.yaml, ~/.config/sshka/config.yaml, /etc/sshka/relay.yaml, /etc/sshka/config.yaml", Text: "The configuration: the first that exists. /etc/sshka/relay.yaml, the packaged service's, counts for root alone. config.example.yaml, in the documentation, shows every key with its default."},
					{Term: "/etc/sshka/authorized_keys, ~/.ssh/authorized_keys", Text: "Who may use the relay: of the system's, of a user's. The format is that of sshd(8). Others must not be able to write to it, nor to its directory."},
					{Term: "/var/lib/sshka, ~/.local/state/sshka", Text: "The state: the relay's own key (relay_key), and the socket of status and end (relay.sock)."},
				},
			},
			{
				Title: "EXAMPLES",
				Text: "The name of the packaged relay's key, asked as the user that it runs as:\n\n" +
					"  runuser -u sshka -- sshka-relay fingerprint --config /etc/sshka/relay.yaml\n\n" +
					"What it is doing, asked as root:\n\n" +
					"  sshka-relay status --config /etc/sshka/relay.yaml",
			},
			{Title: "SEE ALSO", Text: "sshka-proxy(1), sshd(8), systemd.service(5), https://github.com/sshka/sshka-proxy"},
		},
	}
}
