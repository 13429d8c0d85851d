package main

import (
	"github.com/spf13/cobra"

	"github.com/sshka/sshka-proxy/proxy/config"
)

// completing reports whether a shell asks what could come next. It does so in the
// very place of a host, and what is typed may look like a port: without this a TAB
// would dial. A host of that name is reached with flags, or --, before it.
func completing(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// complete says what a shell may offer beside commands and flags. Hosts are ssh's
// to know, and nothing wants the name of a file but --config.
func complete(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	// These fail without such a flag.
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	_ = root.RegisterFlagCompletionFunc("relay", cobra.FixedCompletions(
		[]cobra.Completion{
			cobra.CompletionWithDesc(config.RelayDirect, "dial the target from here"),
			cobra.CompletionWithDesc(config.RelayEmbedded, "a relay inside this process, for trying out"),
		}, cobra.ShellCompDirectiveNoFileComp))
}
