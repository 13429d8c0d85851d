package keyauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

func TestKeyIsProvenOverTLS(t *testing.T) {
	for _, kind := range kinds {
		for _, by := range []string{"file", "agent"} {
			t.Run(kind+" by "+by, func(t *testing.T) {
				k := generate(t, kind)
				var ids *Identities
				if by == "file" {
					ids = loadFile(t, k)
				} else {
					ids = load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, keyring(t, k))})
				}
				o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept(public(t, k))})
				if o.proveErr != nil || o.verErr != nil {
					t.Fatalf("proxy: %v, relay: %v", o.proveErr, o.verErr)
				}
				if want := ssh.FingerprintSHA256(public(t, k)); o.who.Fingerprint != want || o.who.Ticket != 0 {
					t.Errorf("authenticated %+v, want %s by key", o.who, want)
				}
				if !reflect.DeepEqual(o.who.Grant, Grant{File: "list", Line: 1}) {
					t.Errorf("grant %+v", o.who.Grant)
				}
				if *o.welcome != *o.sent || o.welcome.Secret == (wire.Secret{}) {
					t.Errorf("WELCOME does not carry the relay's ticket")
				}
			})
		}
	}
}

// hardware is an agent with one FIDO key.
type hardware struct {
	agent.ExtendedAgent
	priv  ed25519.PrivateKey
	flags byte
}

func newHardware(t *testing.T, flags byte) *hardware {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return &hardware{agent.NewKeyring().(agent.ExtendedAgent), priv, flags}
}

func (h *hardware) public() ssh.PublicKey {
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(h.priv.Public().(ed25519.PublicKey)), "ssh:"}))
	if err != nil {
		panic(err)
	}
	return pub
}

func (h *hardware) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: ssh.KeyAlgoSKED25519, Blob: h.public().Marshal()}}, nil
}

func (h *hardware) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	app, msg := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	counter := []byte{0, 0, 0, 9}
	signed := bytes.Join([][]byte{app[:], {h.flags}, counter, msg[:]}, nil)
	return &ssh.Signature{
		Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(h.priv, signed), Rest: append([]byte{h.flags}, counter...),
	}, nil
}

func TestSecurityKeyIsProvenWithATouchOnly(t *testing.T) {
	for touch, want := range map[byte]Reason{1: "", 0: ReasonBadSignature} {
		h := newHardware(t, touch)
		ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, h)})
		o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept(h.public())})
		var got Reason
		if v, ok := errors.AsType[*VerifyError](o.verErr); ok {
			got = v.Reason
		}
		if got != want {
			t.Errorf("touch %d: %v, want reason %q", touch, o.verErr, want)
		}
	}
}

// counting counts what an agent is asked to sign.
type counting struct {
	agent.ExtendedAgent
	signed atomic.Int32
}

func (c *counting) SignWithFlags(k ssh.PublicKey, data []byte, f agent.SignatureFlags) (*ssh.Signature, error) {
	c.signed.Add(1)
	return c.ExtendedAgent.SignWithFlags(k, data, f)
}

func TestAgentSignsOnceAndOnlyWhenAKeyIsPicked(t *testing.T) {
	first, second, third := generate(t, "ed25519"), generate(t, "ecdsa256"), generate(t, "ed25519")
	a := &counting{ExtendedAgent: keyring(t, first, second, third)}
	ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, a)})

	o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept()})
	denied, ok := errors.AsType[*DeniedError](o.proveErr)
	if !ok || denied.Code != wire.CodeNotAllowed {
		t.Fatalf("proxy: %v, want to be denied", o.proveErr)
	}
	if got, want := o.proveErr.Error(), "denied by the relay: key not authorized (3 keys offered)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if v, ok := errors.AsType[*VerifyError](o.verErr); !ok || v.Reason != ReasonNoKey {
		t.Errorf("relay: %v", o.verErr)
	}
	if n := a.signed.Load(); n != 0 {
		t.Errorf("%d signatures for nothing", n)
	}

	o = handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept(public(t, third), public(t, second))})
	if o.proveErr != nil || o.verErr != nil {
		t.Fatalf("proxy: %v, relay: %v", o.proveErr, o.verErr)
	}
	if want := ssh.FingerprintSHA256(public(t, second)); o.who.Fingerprint != want {
		t.Errorf("picked %s, want the first authorized one in the proxy's order", o.who.Fingerprint)
	}
	if n := a.signed.Load(); n != 1 {
		t.Errorf("%d signatures, want 1", n)
	}
}

// TestSignatureIsWorthNothingElsewhere takes a valid proof from one connection
// to others, as a relay or someone in the middle could.
func TestSignatureIsWorthNothingElsewhere(t *testing.T) {
	k := generate(t, "ed25519")
	ids := loadFile(t, k)
	cert := relayCert(t)
	e := connect(t, cert)
	if e.proxyBinds != e.relayBinds {
		t.Fatal("the ends of a connection disagree on its binding")
	}
	proof, err := sign(context.Background(), &ids.keys[0], e.proxyBinds)
	must(t, err)

	otherRelay := e.relayBinds
	otherRelay.Exporter = func() [32]byte {
		// The same connection, exported for another relay's key.
		cs := e.relay.ConnectionState()
		other := sha256.Sum256([]byte("other"))
		x, err := cs.ExportKeyingMaterial(ExporterLabel, other[:], 32)
		must(t, err)
		return [32]byte(x)
	}()
	for where, b := range map[string]Binding{
		"here":                               e.relayBinds,
		"another connection to the relay":    connect(t, cert).relayBinds,
		"a connection to another relay":      connect(t, relayCert(t)).relayBinds,
		"the connection, with another relay": otherRelay,
	} {
		s := &script{Reader: bytes.NewReader(wire.Append(wire.Append(nil, ids.Offer()), &wire.Proof{Signature: proof}))}
		_, err := (&Verifier{Authorizer: accept(public(t, k))}).Verify(s, Peer{Binding: b, Addr: addr})
		v, failed := errors.AsType[*VerifyError](err)
		switch {
		case where == "here" && err != nil:
			t.Errorf("not even accepted here: %v", err)
		case where != "here" && (!failed || v.Reason != ReasonBadSignature):
			t.Errorf("%s: %v, want a bad signature", where, err)
		}
	}
}

func TestHostileRelayGetsNoMoreThanAnError(t *testing.T) {
	k := generate(t, "ed25519")
	pick := func(i uint8) []byte { return wire.Append(nil, &wire.Pick{Index: i}) }
	denied := wire.Append(nil, &wire.Denied{Code: wire.CodeBusy, RetryAfter: 3 * time.Second, Message: "full\x1b[2J\nhouse"})
	for name, c := range map[string]struct {
		says     []byte
		protocol bool
		proofs   int
		want     string
	}{
		"pick out of range": {pick(1), true, 0, "offer ssh keys: protocol error: PICK of key 1 where 1 were offered"},
		"welcome unproven":  {wire.Append(nil, NewWelcome()), true, 0, "offer ssh keys: protocol error: unexpected WELCOME"},
		"pick twice":        {append(pick(0), pick(0)...), true, 1, "prove ssh key: protocol error: unexpected PICK"},
		"oversize":          {[]byte{byte(wire.TypePick), 0xff, 0, 0}, true, 0, "offer ssh keys: read the relay's answer: protocol error: PICK of 16711680 bytes, at most 16384"},
		"long pick":         {[]byte{byte(wire.TypePick), 0, 0, 2, 0, 0}, true, 0, "offer ssh keys: read the relay's answer: protocol error: PICK: 1 bytes too many"},
		"truncated":         {pick(0)[:4], false, 0, "offer ssh keys: read the relay's answer: unexpected EOF"},
		"silence":           {nil, false, 0, "offer ssh keys: read the relay's answer: unexpected EOF"},
		"end after pick":    {pick(0), false, 1, "prove ssh key: read the relay's answer: unexpected EOF"},
		"unknown type":      {[]byte{0x7f, 0, 0, 0}, true, 0, "offer ssh keys: read the relay's answer: protocol error: unknown type 0x7f"},
		"denied":            {denied, false, 0, "denied by the relay: full [2J house, come back in 3s"},
		"denied late":       {append(pick(0), denied...), false, 1, "denied by the relay: full [2J house, come back in 3s"},
	} {
		s := &script{Reader: bytes.NewReader(c.says)}
		_, err := Prove(context.Background(), s, Binding{}, loadFile(t, k))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
			continue
		}
		if got := errors.Is(err, wire.ErrProtocol); got != c.protocol {
			t.Errorf("%s: matches ErrProtocol: %v", name, got)
		}
		r, proofs := bytes.NewReader(s.heard), 0
		for {
			m, err := wire.Read(r)
			if err != nil {
				break
			}
			if m.Type() == wire.TypeProof {
				proofs++
			}
		}
		if proofs != c.proofs {
			t.Errorf("%s: %d proofs, want %d", name, proofs, c.proofs)
		}
	}
}

func TestDeniedErrorTellsWhyInOneLine(t *testing.T) {
	for want, e := range map[string]*DeniedError{
		"denied by the relay: key not authorized (1 key offered)": {Code: wire.CodeNotAllowed, Message: "key not authorized", Offered: 1},
		"denied by the relay: not allowed":                        {Code: wire.CodeNotAllowed},
		"denied by the relay: shutting down, come back in 1s":     {Code: wire.CodeShuttingDown, RetryAfter: time.Second},
		"denied by the relay: code 999":                           {Code: 999, Message: "\x00\n"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestHangingAgentIsLetGo has an agent that reads its request, or the request
// to sign, and never answers.
func TestHangingAgentIsLetGo(t *testing.T) {
	k := generate(t, "ed25519")
	ring := keyring(t, k)

	t.Run("list", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		socket := listenAgent(t, func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 5))
			cancel()
			_, _ = c.Read(make([]byte, 1)) // until the proxy closes
		})
		_, err := Load(ctx, Sources{List: []string{FromAgent}, AgentSocket: socket})
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoKeys) {
			t.Errorf("%v, want the context's end", err)
		}
	})
	t.Run("sign", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var asked atomic.Int32
		socket := listenAgent(t, func(c net.Conn) {
			if asked.Add(1) == 1 {
				_ = agent.ServeAgent(ring, c)
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 5))
			cancel()
			_, _ = io.Copy(io.Discard, c)
		})
		ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: socket})
		s := &script{Reader: bytes.NewReader(wire.Append(nil, &wire.Pick{}))}
		_, err := Prove(ctx, s, Binding{}, ids)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the context's end", err)
		}
		if !strings.HasPrefix(fmt.Sprint(err), "sign with ssh key SHA256:") {
			t.Errorf("%v does not tell what was being done", err)
		}
	})
}

func TestInterruptedProofTellsWhyTheContextEnded(t *testing.T) {
	e := connect(t, relayCert(t))
	ids := loadFile(t, generate(t, "ed25519"))
	why := errors.New("the laptop went to sleep")
	ctx, cancel := context.WithCancelCause(context.Background())
	context.AfterFunc(ctx, func() { e.proxy.SetDeadline(time.Unix(1, 0)) })
	go func() {
		_, _ = wire.Read(e.relay) // the OFFER; no answer follows
		cancel(why)
	}()
	if _, err := Prove(ctx, e.proxy, e.proxyBinds, ids); !errors.Is(err, why) {
		t.Errorf("%v, want the context's cause", err)
	}
}

// ancient is an agent from before rsa-sha2: it does not know the flags.
type ancient struct{ agent.ExtendedAgent }

func (a ancient) SignWithFlags(k ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.Sign(k, data)
}

func TestAgentThatSignsWithSHA1IsCaughtByTheProxy(t *testing.T) {
	k := generate(t, "rsa")
	ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, ancient{keyring(t, k)})})
	s := &script{Reader: bytes.NewReader(wire.Append(nil, &wire.Pick{}))}
	_, err := Prove(context.Background(), s, Binding{}, ids)
	if err == nil || !strings.Contains(err.Error(), `signature format "ssh-rsa" is not accepted`) {
		t.Errorf("%v", err)
	}
}

func TestProveWithoutKeysSaysNothing(t *testing.T) {
	s := &script{Reader: bytes.NewReader(nil)}
	if _, err := Prove(context.Background(), s, Binding{}, new(Identities)); !errors.Is(err, ErrNoKeys) || len(s.heard) > 0 {
		t.Errorf("%v, wrote %d bytes", err, len(s.heard))
	}
}
