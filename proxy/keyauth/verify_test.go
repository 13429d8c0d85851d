package keyauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// forge returns an SSHSIG blob for b by k, with the changes that edit makes
// before the inner signature is made in format ("" is the key's usual one), and
// that late makes afterwards.
func forge(tb testing.TB, k ssh.Signer, b Binding, format string, edit, late func(*sshsig)) []byte {
	tb.Helper()
	s := sshsig{
		Magic: sshsigMagic, Version: sshsigVersion, PublicKey: k.PublicKey().Marshal(),
		Namespace: Namespace, Hash: sshsigHash,
	}
	if edit != nil {
		edit(&s)
	}
	digest512, digest256 := sha512.Sum512(b.message()), sha256.Sum256(b.message())
	digest := digest512[:]
	if s.Hash == "sha256" {
		digest = digest256[:]
	}
	data := ssh.Marshal(sshsigSigned{s.Magic, s.Namespace, s.Reserved, s.Hash, digest})
	sig, err := k.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, format)
	must(tb, err)
	s.Signature = ssh.Marshal(*sig)
	if late != nil {
		late(&s)
	}
	return ssh.Marshal(s)
}

func TestProofIsCheckedInEveryField(t *testing.T) {
	b := Binding{Exporter: [32]byte{1}, Relay: [32]byte{2}}
	newSigner := func(kind string) ssh.Signer {
		s, err := ssh.NewSignerFromKey(generate(t, kind))
		must(t, err)
		return s
	}
	ed, other, rsa, ec := newSigner("ed25519"), newSigner("ed25519"), newSigner("rsa"), newSigner("ecdsa256")
	edit := func(f func(*sshsig)) []byte { return forge(t, ed, b, "", f, nil) }
	late := func(f func(*sshsig)) []byte { return forge(t, ed, b, "", nil, f) }
	good := forge(t, ed, b, "", nil, nil)
	elsewhere := b
	elsewhere.Exporter[31]++

	for name, c := range map[string]struct {
		key   ssh.Signer
		proof []byte
		want  string // "" is accepted
	}{
		"ed25519":             {ed, good, ""},
		"ecdsa":               {ec, forge(t, ec, b, "", nil, nil), ""},
		"rsa-sha2-512":        {rsa, forge(t, rsa, b, ssh.KeyAlgoRSASHA512, nil, nil), ""},
		"rsa-sha2-256":        {rsa, forge(t, rsa, b, ssh.KeyAlgoRSASHA256, nil, nil), ""},
		"rsa with SHA-1":      {rsa, forge(t, rsa, b, ssh.KeyAlgoRSA, nil, nil), `signature format "ssh-rsa" is not accepted for a key of type ssh-rsa`},
		"empty":               {ed, nil, "not an SSHSIG blob"},
		"cut":                 {ed, good[:len(good)-1], "not an SSHSIG blob"},
		"one more byte":       {ed, append(slices.Clone(good), 0), "not an SSHSIG blob"},
		"magic":               {ed, edit(func(s *sshsig) { s.Magic[5] = 'H' }), "not an SSHSIG blob"},
		"version":             {ed, edit(func(s *sshsig) { s.Version = 2 }), "version 2"},
		"namespace":           {ed, edit(func(s *sshsig) { s.Namespace = "git" }), `namespace "git"`},
		"namespace relabeled": {ed, forge(t, ed, b, "", func(s *sshsig) { s.Namespace = "git" }, func(s *sshsig) { s.Namespace = Namespace }), "ssh: signature did not verify"},
		"reserved":            {ed, edit(func(s *sshsig) { s.Reserved = "x" }), "reserved field is not empty"},
		"hash":                {ed, edit(func(s *sshsig) { s.Hash = "sha256" }), `hash "sha256"`},
		"another key":         {other, good, "made by another key than the one picked"},
		"another key inside":  {ed, forge(t, other, b, "", nil, func(s *sshsig) { s.PublicKey = ed.PublicKey().Marshal() }), "ssh: signature did not verify"},
		"another message":     {ed, forge(t, ed, elsewhere, "", nil, nil), "ssh: signature did not verify"},
		"no signature":        {ed, late(func(s *sshsig) { s.Signature = nil }), "malformed signature"},
		"rest":                {ed, late(func(s *sshsig) { s.Signature = append(s.Signature, 0) }), "bytes after the signature"},
		"flipped":             {ed, late(func(s *sshsig) { s.Signature[len(s.Signature)-1] ^= 1 }), "ssh: signature did not verify"},
		"format of another key": {ed, late(func(s *sshsig) {
			s.Signature = ssh.Marshal(ssh.Signature{Format: "ssh-dss", Blob: make([]byte, 40)})
		}), `signature format "ssh-dss" is not accepted for a key of type ssh-ed25519`},
	} {
		got := ""
		if err := checkProof(c.proof, c.key.PublicKey().Marshal(), c.key.PublicKey(), b, &Grant{}); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestWeakKeysAreNeverPicked asks with an authorizer that would take anything.
func TestWeakKeysAreNeverPicked(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	ca, err := ssh.NewSignerFromKey(generate(t, "ed25519"))
	must(t, err)
	cert := &ssh.Certificate{Key: public(t, generate(t, "ed25519")), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	must(t, cert.SignCert(rand.Reader, ca))
	strong := public(t, generate(t, "ed25519"))

	offer := &wire.Offer{Keys: [][]byte{
		{},
		[]byte("no key"), dsaBlob(), public(t, short).Marshal(), cert.Marshal(),
		append(strong.Marshal(), 0), strong.Marshal(),
	}}
	i, key := (&Verifier{Authorizer: acceptAll{}}).pick(offer, addr)
	if key == nil || i != len(offer.Keys)-1 {
		t.Errorf("picked %d %v, want only the last", i, key)
	}
}

// dsaBlob is a well-formed DSA key. The group is not one, nobody looks.
func dsaBlob() []byte {
	p, q := new(big.Int).Lsh(big.NewInt(1), 1023), new(big.Int).Lsh(big.NewInt(1), 159)
	return ssh.Marshal(struct {
		Type       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", p, q, big.NewInt(3), big.NewInt(5)})
}

type acceptAll struct{}

func (acceptAll) Authorize(ssh.PublicKey, netip.Addr) (Grant, bool) { return Grant{}, true }

func TestFailuresHaveReasonsAndToldCodes(t *testing.T) {
	k := generate(t, "ed25519")
	ids := loadFile(t, k)
	offer := wire.Append(nil, ids.Offer())
	ticket := wire.Append(nil, &wire.Ticket{Kind: wire.TicketLink})
	pick := &wire.Pick{}
	unknown := &wire.Denied{Code: wire.CodeUnknown, Message: "ticket unknown"}
	protocol := &wire.Denied{Code: wire.CodeProtocol, Message: "protocol error"}
	say := func(parts ...[]byte) io.Reader { return bytes.NewReader(bytes.Join(parts, nil)) }
	stranger := wire.Append(nil, loadFile(t, generate(t, "ed25519")).Offer())

	for name, c := range map[string]struct {
		says   io.Reader
		reason Reason
		told   []wire.Message
	}{
		"nothing":           {say(), ReasonClosed, nil},
		"half an offer":     {say(offer[:20]), ReasonClosed, nil},
		"a stranger's key":  {say(stranger), ReasonNoKey, []wire.Message{&wire.Denied{Code: wire.CodeNotAllowed, Message: "key not authorized"}}},
		"no keys":           {say([]byte{byte(wire.TypeOffer), 0, 0, 1, 0}), ReasonProtocol, []wire.Message{protocol}},
		"oversize offer":    {say([]byte{byte(wire.TypeOffer), 0, 0x40, 1}), ReasonProtocol, []wire.Message{protocol}},
		"a proof at once":   {say(wire.Append(nil, &wire.Proof{})), ReasonProtocol, []wire.Message{protocol}},
		"no proof":          {say(offer), ReasonClosed, []wire.Message{pick}},
		"half a proof":      {say(offer, wire.Append(nil, &wire.Proof{Signature: []byte("x")})[:5]), ReasonClosed, []wire.Message{pick}},
		"offer twice":       {say(offer, offer), ReasonProtocol, []wire.Message{pick, protocol}},
		"a bad proof":       {say(offer, wire.Append(nil, &wire.Proof{Signature: []byte("x")})), ReasonBadSignature, []wire.Message{pick, &wire.Denied{Code: wire.CodeNotAllowed, Message: "signature not accepted"}}},
		"ticket and end":    {say(ticket), ReasonTicketUnknown, []wire.Message{unknown}},
		"ticket and key":    {say(ticket, stranger), ReasonNoKey, []wire.Message{unknown, &wire.Denied{Code: wire.CodeNotAllowed, Message: "key not authorized"}}},
		"too many tickets":  {say(bytes.Repeat(ticket, MaxTickets+1)), ReasonTicketUnknown, []wire.Message{unknown, unknown, unknown, unknown, &wire.Denied{Code: wire.CodeProtocol, Message: "too many tickets"}}},
		"deadline":          {timeouts{}, ReasonTimeout, nil},
		"deadline at proof": {io.MultiReader(say(offer), timeouts{}), ReasonTimeout, []wire.Message{pick}},
	} {
		s := &script{Reader: c.says}
		_, err := (&Verifier{Authorizer: accept(public(t, k))}).Verify(s, Peer{Addr: addr})
		v, ok := errors.AsType[*VerifyError](err)
		if !ok || v.Reason != c.reason || !slices.Contains(Reasons(), v.Reason) {
			t.Errorf("%s: %#v, want reason %s", name, err, c.reason)
			continue
		}
		if v.Timeout() != (c.reason == ReasonTimeout) {
			t.Errorf("%s: Timeout() is %v", name, v.Timeout())
		}
		var want []byte
		for _, m := range c.told {
			want = wire.Append(want, m)
		}
		if !bytes.Equal(s.heard, want) {
			t.Errorf("%s: told %q, want %q", name, s.heard, want)
		}
	}
}

// timeouts is a connection whose deadline has passed.
type timeouts struct{}

func (timeouts) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
}

func TestPickedIsCalledBetweenPickAndProof(t *testing.T) {
	k := generate(t, "ed25519")
	ids := loadFile(t, k)
	s := &script{Reader: bytes.NewReader(wire.Append(nil, ids.Offer()))}
	calls := 0
	_, _ = (&Verifier{Authorizer: accept(public(t, k))}).Verify(s, Peer{Addr: addr, Picked: func() {
		calls++
		if want := wire.Append(nil, &wire.Pick{}); !bytes.Equal(s.heard, want) {
			t.Errorf("told %q before, want the PICK alone", s.heard)
		}
	}})
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
}

// fickle authorizes a number of times.
type fickle struct{ left int }

func (f *fickle) Authorize(ssh.PublicKey, netip.Addr) (Grant, bool) {
	f.left--
	return Grant{}, f.left >= 0
}

func TestKeyRevokedWhileItSignsIsDenied(t *testing.T) {
	ids := loadFile(t, generate(t, "ed25519"))
	o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: &fickle{left: 1}})
	if v, ok := errors.AsType[*VerifyError](o.verErr); !ok || v.Reason != ReasonNoKey {
		t.Errorf("relay: %v", o.verErr)
	}
	if d, ok := errors.AsType[*DeniedError](o.proveErr); !ok || d.Code != wire.CodeNotAllowed {
		t.Errorf("proxy: %v", o.proveErr)
	}
}

func TestTicketStandsForItsKeyOnThisConnectionOnly(t *testing.T) {
	w := NewWelcome()
	if w.Secret == NewWelcome().Secret || w.TicketID == NewWelcome().TicketID {
		t.Fatal("two tickets are the same")
	}
	cert := relayCert(t)
	e := connect(t, cert)
	owner := Identity{Fingerprint: "SHA256:owner"}
	v := &Verifier{Authorizer: accept(), Ticket: func(kind wire.TicketKind, id wire.ID, from netip.Addr) (wire.Secret, Identity, bool) {
		return w.Secret, owner, kind == wire.TicketSession && id == w.TicketID && from == addr
	}}
	present := func(m *wire.Ticket, b Binding) (Identity, *script, error) {
		s := &script{Reader: bytes.NewReader(wire.Append(nil, m))}
		id, err := v.Verify(s, Peer{Binding: b, Addr: addr})
		return id, s, err
	}
	ticket := &wire.Ticket{Kind: wire.TicketSession, ID: w.TicketID, MAC: TicketMAC(w.Secret, e.proxyBinds)}

	id, s, err := present(ticket, e.relayBinds)
	if err != nil || id.Fingerprint != owner.Fingerprint || id.Ticket != wire.TicketSession || len(s.heard) != 0 {
		t.Fatalf("%+v, %v, told %q", id, err, s.heard)
	}
	forged := *ticket
	forged.MAC[31] ^= 1
	otherKind := *ticket
	otherKind.Kind = wire.TicketLink
	otherRelay := e.relayBinds
	otherRelay.Relay[0] ^= 1
	for name, c := range map[string]struct {
		m *wire.Ticket
		b Binding
	}{
		"forged":                   {&forged, e.relayBinds},
		"of another kind":          {&otherKind, e.relayBinds},
		"on another connection":    {ticket, connect(t, cert).relayBinds},
		"on one to another relay":  {ticket, connect(t, relayCert(t)).relayBinds},
		"for another relay's key":  {ticket, otherRelay},
		"with an empty connection": {ticket, Binding{}},
	} {
		_, s, err := present(c.m, c.b)
		if f, ok := errors.AsType[*VerifyError](err); !ok || f.Reason != ReasonTicketUnknown {
			t.Errorf("%s: %v", name, err)
		}
		if want := wire.Append(nil, &wire.Denied{Code: wire.CodeUnknown, Message: "ticket unknown"}); !bytes.Equal(s.heard, want) {
			t.Errorf("%s: told %q", name, s.heard)
		}
	}
}

func TestRefusedTicketLeavesTheConnectionToAKey(t *testing.T) {
	k := generate(t, "ed25519")
	e := connect(t, relayCert(t))
	done := make(chan error, 1)
	go func() {
		_, err := (&Verifier{Authorizer: accept(public(t, k))}).Verify(e.relay, Peer{Binding: e.relayBinds, Addr: addr})
		if err == nil {
			err = write(e.relay, NewWelcome())
		}
		done <- err
	}()
	must(t, write(e.proxy, &wire.Ticket{Kind: wire.TicketLink}))
	m, err := wire.Read(e.proxy)
	must(t, err)
	if d, ok := m.(*wire.Denied); !ok || d.Code != wire.CodeUnknown {
		t.Fatalf("ticket answered by %#v", m)
	}
	if _, err := Prove(context.Background(), e.proxy, e.proxyBinds, loadFile(t, k)); err != nil {
		t.Errorf("proxy: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("relay: %v", err)
	}
}

// TestTicketMACIsTheDocumentedOne computes it from RFC 2104 by hand.
func TestTicketMACIsTheDocumentedOne(t *testing.T) {
	secret := wire.Secret{1, 2, 3}
	b := Binding{Exporter: [32]byte{4}, Relay: [32]byte{5}}
	pad := func(x byte) []byte {
		p := make([]byte, sha256.BlockSize)
		copy(p, secret[:])
		for i := range p {
			p[i] ^= x
		}
		return p
	}
	inner := sha256.Sum256(bytes.Join([][]byte{pad(0x36), []byte("client\x00"), b.Exporter[:], b.Relay[:]}, nil))
	if want := sha256.Sum256(append(pad(0x5c), inner[:]...)); TicketMAC(secret, b) != want {
		t.Error("differs")
	}
}

// TestSSHKeygenAcceptsTheProof holds the promise that anyone can audit it.
func TestSSHKeygenAcceptsTheProof(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("no ssh-keygen here")
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			e := connect(t, relayCert(t))
			k := generate(t, kind)
			blob, err := sign(context.Background(), &loadFile(t, k).keys[0], e.proxyBinds)
			must(t, err)

			var armored strings.Builder
			armored.WriteString("-----BEGIN SSH SIGNATURE-----\n")
			for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(blob)), 70) {
				fmt.Fprintf(&armored, "%s\n", line)
			}
			armored.WriteString("-----END SSH SIGNATURE-----\n")
			dir := privateDir(t)
			signers, sig := filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "sig")
			writeFile(t, signers, "me@example "+string(ssh.MarshalAuthorizedKey(public(t, k))), 0o600)
			writeFile(t, sig, armored.String(), 0o600)

			verify := func(exporter []byte) (string, error) {
				cmd := exec.Command(keygen, "-Y", "verify", "-f", signers, "-I", "me@example", "-n", "link@sshka-proxy", "-s", sig)
				cmd.Stdin = strings.NewReader("client\x00" + string(exporter))
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := verify(e.relayBinds.Exporter[:]); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if _, err := verify(make([]byte, 32)); err == nil {
				t.Error("ssh-keygen accepts it for another message too")
			}
		})
	}
}

func TestVerifyErrorKeepsItsCause(t *testing.T) {
	err := error(&VerifyError{Reason: ReasonProtocol, Err: wire.Violation("x")})
	if !errors.Is(err, wire.ErrProtocol) || err.Error() != "authenticate proxy: protocol error: x" {
		t.Errorf("%v", err)
	}
	var ne interface{ Timeout() bool }
	if !errors.As(err, &ne) || ne.Timeout() {
		t.Error("a protocol error is no timeout")
	}
}
