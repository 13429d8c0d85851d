package keyauth

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// askAgent connects to the agent at socket, does one thing there and closes the
// connection: which is also how the end of ctx gets an agent that hangs, or
// waits for a person, to let go.
func askAgent[T any](ctx context.Context, socket string, do func(agent.ExtendedAgent) (T, error)) (T, error) {
	var none T
	conn, err := dialAgent(ctx, socket)
	if err != nil {
		return none, fmt.Errorf("connect to ssh-agent: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	// Without its Close the client starts no goroutine.
	v, err := do(agent.NewClient(struct{ io.ReadWriter }{conn}))
	switch {
	case err != nil && ctx.Err() != nil:
		return none, fmt.Errorf("wait for ssh-agent: %w", context.Cause(ctx))
	case err != nil:
		return none, fmt.Errorf("ssh-agent %s: %w", socket, err)
	}
	return v, nil
}

// listAgent returns the keys and certificates that the agent at socket holds.
func listAgent(ctx context.Context, socket string) ([]*agent.Key, error) {
	return askAgent(ctx, socket, func(a agent.ExtendedAgent) ([]*agent.Key, error) { return a.List() })
}

// agentSigner signs by the agent at socket, which knows the key by its blob: a
// certificate's where it has been given that one.
type agentSigner struct {
	socket string
	key    *agent.Key
}

func (s agentSigner) sign(ctx context.Context, data []byte) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	plain := plainType(s.key.Format)
	if plain == ssh.KeyAlgoRSA {
		flags = agent.SignatureFlagRsaSha512
	}
	sig, err := askAgent(ctx, s.socket, func(a agent.ExtendedAgent) (*ssh.Signature, error) {
		return a.SignWithFlags(s.key, data, flags)
	})
	if err != nil {
		return nil, err
	}
	// An agent older than the flags does not know them and signs with SHA-1.
	if plain == ssh.KeyAlgoRSA {
		if err := checkSignatureFormat(plain, sig.Format); err != nil {
			return nil, fmt.Errorf("ssh-agent %s: %w", s.socket, err)
		}
	}
	return sig, nil
}
