package keyauth

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// ppk is a PuTTY key file as puttygen writes it, but for its private part.
func ppk(blob []byte, end string) string {
	encoded := base64.StdEncoding.EncodeToString(blob)
	return strings.Join([]string{
		"PuTTY-User-Key-File-3: ssh-ed25519", "Encryption: none", "Comment: me",
		"Public-Lines: 2", encoded[:64], encoded[64:], "Private-Lines: 1", "AAAA", "Private-MAC: 00", "",
	}, end)
}

func TestAPuTTYKeyIsUsedThroughTheAgentThatHoldsIt(t *testing.T) {
	k := generate(t, "ed25519")
	path := privateDir(t) + "/key.ppk"
	for _, end := range []string{"\n", "\r\n"} {
		writeFile(t, path, ppk(public(t, k).Marshal(), end), 0o600)
		ids := load(t, Sources{List: []string{path}, Explicit: true, AgentSocket: serveAgent(t, keyring(t, generate(t, "ed25519"), k))})
		if got := sources(ids); !slices.Equal(got, []string{FromAgent}) || len(ids.Problems()) != 0 {
			t.Errorf("from %q, problems %q", got, texts(ids.Problems()))
		}
		if got := ids.Offer().Keys[0]; string(got) != string(public(t, k).Marshal()) {
			t.Errorf("offers another key")
		}
	}
	_, err := Load(context.Background(), Sources{List: []string{path}, AgentSocket: serveAgent(t, keyring(t, generate(t, "ed25519")))})
	if err == nil || !strings.Contains(err.Error(), path+" is a PuTTY key: load it into Pageant, or ") {
		t.Errorf("%v", err)
	}
}

// TestNonsenseInAPuTTYKeyIsNoKey: a file that is cut, or made up, panics nobody.
func TestNonsenseInAPuTTYKeyIsNoKey(t *testing.T) {
	whole := ppk(public(t, generate(t, "ed25519")).Marshal(), "\n")
	if puttyPublic([]byte(whole)) == nil {
		t.Error("the whole file is not understood")
	}
	for _, count := range []string{"0", "-1", "9999999999999999999999", "1000", "1", "", "x"} {
		if puttyPublic([]byte(strings.Replace(whole, "Public-Lines: 2", "Public-Lines: "+count, 1))) != nil {
			t.Errorf("%q lines: there is a key", count)
		}
	}
	end := strings.Index(whole, "Private-Lines") - 1
	for n := range end {
		if puttyPublic([]byte(whole[:n])) != nil {
			t.Errorf("the first %d bytes are a key", n)
		}
	}
}
