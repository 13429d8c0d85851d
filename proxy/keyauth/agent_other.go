//go:build !windows

package keyauth

import (
	"context"
	"io"
	"net"
)

// noAgent says that there is none to ask.
const noAgent = "no ssh-agent: SSH_AUTH_SOCK is not set"

// systemAgents are where agents may be that nobody has named: nowhere.
func systemAgents() []string { return nil }

func dialAgent(ctx context.Context, socket string) (io.ReadWriteCloser, error) {
	return new(net.Dialer).DialContext(ctx, "unix", socket)
}
