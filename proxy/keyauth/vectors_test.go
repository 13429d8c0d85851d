package keyauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// documented returns the bytes that a block of docs/protocol.md §11 names.
func documented(t *testing.T, block string) func(name string) []byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/protocol.md")
	must(t, err)
	lines := strings.Split(string(text), "\n")
	start := slices.Index(lines, "```"+block)
	if start < 0 {
		t.Fatalf("no block %q", block)
	}
	values, name := map[string]string{}, ""
	for _, line := range lines[start+1:] {
		if line == "```" {
			break
		}
		if key, value, ok := strings.Cut(line, ": "); ok {
			name, line = key, value
		}
		values[name] += strings.TrimSpace(line)
	}
	return func(name string) []byte {
		t.Helper()
		b, err := hex.DecodeString(values[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("%s of block %q: %q, %v", name, block, values[name], err)
		}
		return b
	}
}

func TestTicketMACVector(t *testing.T) {
	v := documented(t, "ticket-mac")
	b := Binding{Exporter: [32]byte(v("exporter")), Relay: [32]byte(v("context"))}
	mac := TicketMAC(wire.Secret(v("secret")), b)
	if !bytes.Equal(mac[:], v("mac")) {
		t.Errorf("%x, want %x", mac, v("mac"))
	}
	if !CheckTicket(&wire.Ticket{MAC: mac}, wire.Secret(v("secret")), b) {
		t.Error("the documented MAC is not accepted")
	}
}

func TestProofVector(t *testing.T) {
	v := documented(t, "proof")
	b := Binding{Exporter: [32]byte(v("exporter"))}
	if got := b.message(); !bytes.Equal(got, v("message")) {
		t.Errorf("message %x, want %x", got, v("message"))
	}
	if got := toBeSigned(b.message()); !bytes.Equal(got, v("signed")) {
		t.Errorf("signed %x, want %x", got, v("signed"))
	}
	private := ed25519.NewKeyFromSeed(v("seed"))
	k := &loadFile(t, private).keys[0]
	if !bytes.Equal(k.blob, v("key")) {
		t.Errorf("key %x, want %x", k.blob, v("key"))
	}
	blob, err := sign(context.Background(), k, b)
	must(t, err)
	if !bytes.Equal(blob, v("signature")) {
		t.Errorf("signature %x, want %x", blob, v("signature"))
	}
	if err := checkProof(v("signature"), v("key"), public(t, private), b, &Grant{}); err != nil {
		t.Error(err)
	}
}
