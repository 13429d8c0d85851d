// Command sshka-relay stands beside ssh servers and carries to them what proxies
// send through their links.
//
//	sshka-relay serve          accept links
//	sshka-relay status         what the running relay is doing
//	sshka-relay end            stop sessions in it
//	sshka-relay fingerprint    print the name of this relay's key
//	sshka-relay check          look for mistakes before serve meets them
package main

import (
	"os"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
	"github.com/sshka/sshka-proxy/proxy"
)

func main() {
	os.Exit(run(os.Args[1:], &ui{out: os.Stdout, err: console.New(os.Stderr)}))
}

// agent is how this program names itself to a proxy.
func agent() string { return "sshka-relay/" + proxy.Version }
