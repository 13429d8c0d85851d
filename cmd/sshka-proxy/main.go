// Command sshka-proxy carries ssh connections through a relay, over a link that
// no router forgets.
//
// In ssh_config(5):
//
//	Host *.internal
//	    ProxyCommand sshka-proxy %h %p
//	    ServerAliveInterval 0
package main

import (
	"os"

	"github.com/sshka/sshka-proxy/proxy"
)

func main() {
	os.Exit(run(os.Args[1:], newUI(os.Stderr)))
}

// agent is how this program names itself to a relay.
func agent() string { return "sshka-proxy/" + proxy.Version }
