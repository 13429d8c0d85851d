package keyauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

func sources(ids *Identities) (s []string) {
	for _, k := range ids.Keys() {
		s = append(s, k.Source)
	}
	return s
}

func texts(errs []error) (s []string) {
	for _, e := range errs {
		s = append(s, e.Error())
	}
	return s
}

func TestKeyOfAgentAndFileIsOfferedOnceAndSignedByTheAgent(t *testing.T) {
	both, fileOnly, agentOnly := generate(t, "ed25519"), generate(t, "ecdsa256"), generate(t, "ed25519")
	a := &counting{ExtendedAgent: keyring(t, agentOnly, both)}
	socket := serveAgent(t, a)
	bothPath, filePath := writeKey(t, both, ""), writeKey(t, fileOnly, "")

	ids := load(t, Sources{List: []string{bothPath, FromAgent, filePath}, AgentSocket: socket})
	if got, want := sources(ids), []string{FromAgent, FromAgent, filePath}; !slices.Equal(got, want) {
		t.Fatalf("from %q, want %q", got, want)
	}
	want := []crypto.Signer{both, agentOnly, fileOnly}
	for i, k := range ids.Offer().Keys {
		if !bytes.Equal(k, public(t, want[i]).Marshal()) {
			t.Errorf("offer %d is another key", i)
		}
	}
	if k := ids.Keys()[0]; k.Comment != "from the ring" || k.Type != "ssh-ed25519" || k.Fingerprint != ssh.FingerprintSHA256(public(t, both)) {
		t.Errorf("described as %+v", k)
	}
	if o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept(public(t, both))}); o.verErr != nil {
		t.Error(o.verErr)
	}
	if n := a.signed.Load(); n != 1 {
		t.Errorf("the agent signed %d times, want 1", n)
	}

	// A list without the agent offers no other key of it.
	ids = load(t, Sources{List: []string{bothPath}, AgentSocket: socket})
	if got := sources(ids); !slices.Equal(got, []string{FromAgent}) {
		t.Errorf("from %q", got)
	}
}

func TestEncryptedKeyIsSignedByTheAgentOrReported(t *testing.T) {
	k, plain := generate(t, "ed25519"), generate(t, "ed25519")
	path := writeKey(t, k, "secret")
	socket := serveAgent(t, keyring(t, k))

	o := handshake(t, connect(t, relayCert(t)), load(t, Sources{List: []string{path}, AgentSocket: socket}),
		&Verifier{Authorizer: accept(public(t, k))})
	if o.proveErr != nil {
		t.Error(o.proveErr)
	}
	writeCertificate(t, path, newAuthority(t, "ed25519").issue(t, public(t, k), nil))
	if got := load(t, Sources{List: []string{path}, AgentSocket: socket}).Keys(); len(got) != 2 || !isCertificate(got[0].Type) {
		t.Errorf("with a certificate beside it offers %+v", got)
	}

	want := path + " is encrypted: add it to ssh-agent (ssh-add " + path + ")"
	ids := load(t, Sources{List: []string{path, writeKey(t, plain, "")}})
	if got := texts(ids.Problems()); !slices.Equal(got, []string{want}) || len(ids.Keys()) != 1 {
		t.Errorf("problems %q, want %q", got, want)
	}
	_, err := Load(context.Background(), Sources{List: []string{path}})
	if !errors.Is(err, ErrNoKeys) || err.Error() != "no usable ssh key: "+want+"; or make one (ssh-keygen -t ed25519)" {
		t.Errorf("%v", err)
	}
}

// TestOldEncryptedKeyIsFoundByItsPublicFile: the formats before OpenSSH's own
// do not tell their public key without the passphrase.
func TestOldEncryptedKeyIsFoundByItsPublicFile(t *testing.T) {
	k := generate(t, "rsa")
	socket := serveAgent(t, keyring(t, k))
	for _, block := range []*pem.Block{
		{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")},
		{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")},
	} {
		path := privateDir(t) + "/id_rsa"
		writeFile(t, path, string(pem.EncodeToMemory(block)), 0o600)
		_, err := Load(context.Background(), Sources{List: []string{path}, AgentSocket: socket})
		if err == nil || !strings.Contains(err.Error(), path+" is encrypted") {
			t.Errorf("%s without a .pub: %v", block.Type, err)
		}
		writeFile(t, path+".pub", string(ssh.MarshalAuthorizedKey(public(t, k))), 0o644)
		if got := sources(load(t, Sources{List: []string{path}, AgentSocket: socket})); !slices.Equal(got, []string{FromAgent}) {
			t.Errorf("%s: from %q", block.Type, got)
		}
	}
}

func TestPublicFileAloneNamesAKeyOfTheAgent(t *testing.T) {
	k := generate(t, "ed25519")
	path := privateDir(t) + "/id"
	writeFile(t, path+".pub", string(ssh.MarshalAuthorizedKey(public(t, k))), 0o644)
	for _, entry := range []string{path, path + ".pub"} {
		ids := load(t, Sources{List: []string{entry}, AgentSocket: serveAgent(t, keyring(t, k, generate(t, "ed25519")))})
		if got := sources(ids); !slices.Equal(got, []string{FromAgent}) {
			t.Errorf("%s: from %q", entry, got)
		}
	}
	_, err := Load(context.Background(), Sources{List: []string{path + ".pub"}})
	if err == nil || !strings.Contains(err.Error(), "ssh-agent does not hold the key of "+path+".pub: add it (ssh-add "+path+")") {
		t.Errorf("%v", err)
	}
}

func TestMissingSourcesAreReportedOnlyWhenAskedFor(t *testing.T) {
	dir := privateDir(t)
	list := []string{FromAgent, dir + "/id_ed25519"}
	_, err := Load(context.Background(), Sources{List: list})
	if err != ErrNoKeys || err.Error() != "no ssh key found: make one (ssh-keygen -t ed25519)" { //nolint:errorlint // nothing is added
		t.Errorf("%v", err)
	}
	_, err = Load(context.Background(), Sources{List: list, Explicit: true})
	want := []string{"no ssh-agent: SSH_AUTH_SOCK is not set", "no ssh key " + dir + "/id_ed25519"}
	if n, ok := errors.AsType[*NoKeysError](err); !ok || !slices.Equal(texts(n.Problems), want) || !errors.Is(err, ErrNoKeys) {
		t.Errorf("%v, want %q", err, want)
	}

	list = append(list, writeKey(t, generate(t, "ed25519"), ""))
	if p := load(t, Sources{List: list}).Problems(); len(p) != 0 {
		t.Errorf("problems %q", texts(p))
	}
	if p := load(t, Sources{List: list, Explicit: true}).Problems(); !slices.Equal(texts(p), want) {
		t.Errorf("problems %q, want %q", texts(p), want)
	}
	// A socket that is set and dead is worth a word in any case.
	p := texts(load(t, Sources{List: list, AgentSocket: dir + "/gone"}).Problems())
	if len(p) != 1 || !strings.HasPrefix(p[0], "connect to ssh-agent: ") {
		t.Errorf("problems %q", p)
	}
	empty := serveAgent(t, agent.NewKeyring())
	p = texts(load(t, Sources{List: list, AgentSocket: empty, Explicit: true}).Problems())
	if len(p) != 2 || p[0] != "ssh-agent holds no keys: add one (ssh-add)" {
		t.Errorf("problems %q", p)
	}
}

func TestUnusableKeyFilesAreToldApart(t *testing.T) {
	good := writeKey(t, generate(t, "ed25519"), "")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	dir := privateDir(t)
	ppk, junk, huge, open := dir+"/key.ppk", dir+"/junk", dir+"/huge", writeKey(t, generate(t, "ed25519"), "")
	writeFile(t, ppk, "PuTTY-User-Key-File-3: ssh-ed25519\n", 0o600)
	writeFile(t, junk, "junk", 0o600)
	writeFile(t, huge, strings.Repeat("x", maxKeyFile+1), 0o600)
	shortPath := writeKey(t, short, "")

	cases := map[string]string{
		ppk:       ppk + " is a PuTTY key: load it into Pageant, or puttygen " + ppk + " -O private-openssh -o " + dir + "/key",
		junk:      "read private key " + junk + ": ssh: no key found",
		huge:      huge + " is larger than a key: over 65536 bytes",
		dir:       dir + " is not a regular file",
		shortPath: shortPath + ": an RSA key needs at least 2048 bits, this one is shorter",
	}
	if runtime.GOOS != "windows" {
		must(t, os.Chmod(open, 0o640))
		cases[open] = open + " may be read by others (mode 0640): chmod 600 " + open
	}
	for path, want := range cases {
		ids := load(t, Sources{List: []string{path, good}})
		if got := texts(ids.Problems()); !slices.Equal(got, []string{want}) {
			t.Errorf("problems %q, want %q", got, want)
		}
		if got := sources(ids); !slices.Equal(got, []string{good}) {
			t.Errorf("%s: offers %q", path, got)
		}
	}
}

func TestKeyFileIsReadAnewAndCheckedForEachSignature(t *testing.T) {
	path := writeKey(t, generate(t, "ed25519"), "")
	ids := load(t, Sources{List: []string{path}})
	prove := func() error {
		s := &script{Reader: bytes.NewReader(wire.Append(nil, &wire.Pick{}))}
		_, err := Prove(context.Background(), s, Binding{}, ids)
		return err
	}
	if err := prove(); err == nil || !strings.HasPrefix(err.Error(), "prove ssh key") {
		t.Fatalf("%v, want it to get as far as the proof", err)
	}
	for _, c := range []struct {
		change func()
		want   string
	}{
		{func() { must(t, os.Rename(writeKey(t, generate(t, "ed25519"), ""), path)) }, path + " holds another key since it was offered"},
		{func() { must(t, os.Rename(writeKey(t, generate(t, "ed25519"), "secret"), path)) }, path + " is encrypted: add it to ssh-agent (ssh-add " + path + ")"},
		{func() { must(t, os.Remove(path)) }, "no such file or directory"},
	} {
		c.change()
		if err := prove(); err == nil || !strings.HasSuffix(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "sign with ssh key ") {
			t.Errorf("%v, want ...%s", err, c.want)
		}
	}
}

// listing is an agent that lists what it is told to.
type listing struct {
	agent.ExtendedAgent
	keys []*agent.Key
}

func (l listing) List() ([]*agent.Key, error) { return l.keys, nil }

func TestOfferIsCutToWhatOneFrameHolds(t *testing.T) {
	blob := func(i, size int) *agent.Key {
		b := ssh.Marshal(struct{ Type, Key string }{"x", string(bytes.Repeat([]byte{byte(i)}, size))})
		return &agent.Key{Format: "x", Blob: b}
	}
	many := listing{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent)}
	for i := range 70 {
		many.keys = append(many.keys, blob(i, 32))
	}
	large := many
	large.keys = []*agent.Key{blob(1, 8000), blob(2, 8000), blob(3, 8000), blob(4, 70000), blob(5, 100)}

	for _, c := range []struct {
		agent listing
		keys  int
		left  string
	}{{many, wire.MaxOffers, "6 keys"}, {large, 3, "2 keys"}} {
		ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, c.agent)})
		if n := len(ids.Keys()); n != c.keys {
			t.Errorf("%d keys, want %d", n, c.keys)
		}
		frame := wire.Append(nil, ids.Offer())
		if m, err := wire.Read(bytes.NewReader(frame)); err != nil || len(m.(*wire.Offer).Keys) != c.keys {
			t.Errorf("OFFER reads back as %v, %v", m, err)
		}
		if p := texts(ids.Problems()); len(p) != 1 || !strings.HasPrefix(p[0], c.left+" are left out") {
			t.Errorf("problems %q", p)
		}
	}
}

func (l listing) SignWithFlags(ssh.PublicKey, []byte, agent.SignatureFlags) (*ssh.Signature, error) {
	return &ssh.Signature{Format: "x", Blob: make([]byte, wire.MaxHandshake)}, nil
}

func TestSignatureTooLargeToSendIsAnError(t *testing.T) {
	l := listing{agent.NewKeyring().(agent.ExtendedAgent), []*agent.Key{{Format: "x", Blob: ssh.Marshal(struct{ Type string }{"x"})}}}
	ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, l)})
	s := &script{Reader: bytes.NewReader(wire.Append(nil, &wire.Pick{}))}
	_, err := Prove(context.Background(), s, Binding{}, ids)
	if err == nil || !strings.HasSuffix(err.Error(), "bytes is too large to send") {
		t.Errorf("%v", err)
	}
}

// TestOpenSSHAgentProvesItsKeys asks the real one, where there is one.
func TestOpenSSHAgentProvesItsKeys(t *testing.T) {
	program, err := exec.LookPath("ssh-agent")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("no ssh-agent here")
	}
	dir, err := os.MkdirTemp("", "agent") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, "-D", "-a", socket)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// It speaks once the socket is there.
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatalf("ssh-agent does not start: %v", err)
	}
	conn, err := net.Dial("unix", socket)
	must(t, err)
	defer conn.Close()
	for _, kind := range kinds {
		k := generate(t, kind)
		must(t, agent.NewClient(struct{ io.ReadWriter }{conn}).Add(agent.AddedKey{PrivateKey: k}))
		ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: socket})
		o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: accept(public(t, k))})
		if o.proveErr != nil || o.verErr != nil {
			t.Errorf("%s: proxy: %v, relay: %v", kind, o.proveErr, o.verErr)
		}
	}
}

func TestUnreadablePublicFileIsReported(t *testing.T) {
	path := privateDir(t) + "/id.pub"
	for text, want := range map[string]string{
		"":                   "no key in its first line",
		"ssh-ed25519 !":      "key is not base64: illegal base64 data at input byte 0",
		"restrict " + edLine: `begins with "restrict", not with a type of key`,
	} {
		writeFile(t, path, text, 0o644)
		_, err := Load(context.Background(), Sources{List: []string{path}})
		if err == nil || !strings.Contains(err.Error(), "read public key "+path+": "+want+";") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
