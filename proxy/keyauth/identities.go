package keyauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// FromAgent is the entry of Sources.List that stands for every key of the
// agent, and the Source of each of them.
const FromAgent = "agent"

// Sources tells where a proxy's keys come from.
type Sources struct {
	// List names the sources in order of preference: FromAgent, or the absolute
	// path of a private key. A path that ends in .pub names a key that the agent
	// holds.
	List []string
	// AgentSocket is the path of the agent's socket, as in $SSH_AUTH_SOCK; on Windows
	// a named pipe's too. Empty: there is no agent, but on Windows those of OpenSSH and
	// PuTTY, where they run. The agent signs for every key it holds, even where List
	// names only the file.
	AgentSocket string
	// Explicit tells that a person wrote List, so that whatever it names and is
	// not there is a problem. Otherwise it is skipped.
	Explicit bool
}

// Key describes one key of Identities, or one certificate.
type Key struct {
	// Fingerprint is the key's, as ssh-keygen -l shows it: SHA256:... A
	// certificate's is that of its key.
	Fingerprint string
	// Type is the name of the type, such as ssh-ed25519 or
	// ssh-ed25519-cert-v01@openssh.com.
	Type string
	// Source is FromAgent, or the path of the private key or the certificate.
	Source string
	// Comment is the agent's comment on the key. A file's is not kept.
	Comment string
}

// key is one key that can be proven, or a certificate for one.
type key struct {
	blob   []byte // what is offered
	source string
	note   string
	signer signer
}

// signer signs when it is asked to, and not before. Nothing of it is secret.
type signer interface {
	sign(ctx context.Context, data []byte) (*ssh.Signature, error)
}

// Identities are the keys that a proxy can prove. They are not changed after
// Load and may be used by many goroutines.
type Identities struct {
	keys     []key
	problems []error
}

// ErrNoKeys is matched by the error of Load when there is nothing to prove.
var ErrNoKeys = errors.New("no ssh key found: make one (ssh-keygen -t ed25519)")

// NoKeysError is ErrNoKeys where keys were found and none of them can be used.
type NoKeysError struct {
	// Problems says why, for each of them.
	Problems []error
}

// Error is one line, with the next step for each key.
func (e *NoKeysError) Error() string {
	var b strings.Builder
	b.WriteString("no usable ssh key: ")
	for _, p := range e.Problems {
		b.WriteString(p.Error())
		b.WriteString("; ")
	}
	b.WriteString("or make one (ssh-keygen -t ed25519)")
	return b.String()
}

// Unwrap returns ErrNoKeys and the problems.
func (e *NoKeysError) Unwrap() []error { return append([]error{ErrNoKeys}, e.Problems...) }

// Load looks up which keys there are. It asks the agent for its list and reads
// files, but signs nothing and keeps no private key. A source that cannot be
// used is a problem, see Identities.Problems, and no error as long as another
// can. The error matches ErrNoKeys, or says that ctx ended while the agent was
// waited for.
func Load(ctx context.Context, s Sources) (*Identities, error) {
	l := loader{Sources: s, ids: new(Identities)}
	if err := l.askAgents(ctx); err != nil {
		return nil, err
	}
	for _, entry := range s.List {
		if entry == FromAgent {
			l.addAgent()
		} else if err := l.addFile(entry); err != nil {
			l.problem(err)
		}
	}
	if l.left > 0 {
		l.problem(fmt.Errorf("%d keys are left out: at most %d keys and %d bytes can be offered",
			l.left, wire.MaxOffers, wire.MaxHandshake))
	}
	switch {
	case len(l.ids.keys) > 0:
		return l.ids, nil
	case len(l.ids.problems) > 0:
		return nil, &NoKeysError{l.ids.problems}
	}
	return nil, ErrNoKeys
}

// Problems returns why sources were left out: each is one line for a person
// that names the next step where there is one.
func (ids *Identities) Problems() []error { return slices.Clone(ids.problems) }

// Keys describes the keys in the order they are offered.
func (ids *Identities) Keys() []Key {
	keys := make([]Key, len(ids.keys))
	for i, k := range ids.keys {
		keys[i] = Key{Fingerprint: fingerprint(k.blob), Type: keyType(k.blob), Source: k.source, Comment: k.note}
	}
	return keys
}

// Offer returns the OFFER of all keys, never larger than one frame. The caller
// owns it, its keys are shared.
func (ids *Identities) Offer() *wire.Offer {
	o := &wire.Offer{Keys: make([][]byte, len(ids.keys))}
	for i, k := range ids.keys {
		o.Keys[i] = k.blob
	}
	return o
}

// loader is one run of Load.
type loader struct {
	Sources
	ids   *Identities
	agent []agentKey
	size  int // of the OFFER's body, without its first byte
	left  int // keys that found no room
}

// agentKey is a key, and the agent that holds it.
type agentKey struct {
	*agent.Key
	socket string
}

func (l *loader) problem(err error) { l.ids.problems = append(l.ids.problems, err) }

// askAgents fills l.agent. An agent that cannot be asked is a problem only where
// its keys are wanted, and one that the system may have and does not run is none.
func (l *loader) askAgents(ctx context.Context) error {
	wanted := slices.Contains(l.List, FromAgent)
	named := l.AgentSocket != ""
	sockets := []string{l.AgentSocket}
	if !named {
		sockets = systemAgents()
	}
	running, failed := false, false
	for _, socket := range sockets {
		keys, err := listAgent(ctx, socket)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("list ssh keys: %w", err)
		case !named && errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil && wanted:
			l.problem(err)
		}
		running, failed = true, failed || err != nil
		for _, k := range keys {
			l.agent = append(l.agent, agentKey{k, socket})
		}
	}
	switch {
	case !wanted || !l.Explicit:
	case !running:
		l.problem(errors.New(noAgent))
	case len(l.agent) == 0 && !failed:
		l.problem(errors.New("ssh-agent holds no keys: add one (ssh-add)"))
	}
	return nil
}

func (l *loader) addAgent() {
	for _, k := range l.agent {
		l.add(l.byAgent(k, FromAgent))
	}
}

func (l *loader) byAgent(k agentKey, source string) key {
	return key{blob: k.Blob, source: source, note: k.Comment, signer: agentSigner{k.socket, k.Key}}
}

// addFile adds the key of a private key file, or tells why it cannot.
func (l *loader) addFile(path string) error {
	if strings.HasSuffix(path, ".pub") {
		return l.addPublic(path, func() error {
			return fmt.Errorf("ssh-agent does not hold the key of %s: add it (ssh-add %s)", path, strings.TrimSuffix(path, ".pub"))
		})
	}
	priv, err := readPrivateKey(path)
	encrypted, isEncrypted := errors.AsType[*ssh.PassphraseMissingError](err)
	putty, isPutty := errors.AsType[*puttyKeyError](err)
	switch {
	case err == nil:
		blob := priv.PublicKey().Marshal()
		if !l.addIfAgent(blob) {
			l.add(key{blob: blob, source: path, signer: fileSigner{path, blob}})
		}
		l.addCertificate(path, blob)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return l.addPublic(path+".pub", func() error {
			if !l.Explicit {
				return nil
			}
			return fmt.Errorf("no ssh key %s", path)
		})
	case isPutty && putty.public != nil && l.addIfAgent(putty.public.Marshal()):
		return nil
	case isEncrypted && encrypted.PublicKey != nil:
		if blob := encrypted.PublicKey.Marshal(); l.addIfAgent(blob) {
			l.addCertificate(path, blob)
			return nil
		}
		return encryptedError(path)
	case isEncrypted:
		return l.addPublic(path+".pub", func() error { return encryptedError(path) })
	}
	return err
}

// addPublic adds the key of a public key file if the agent holds it, and
// otherwise returns what absent says.
func (l *loader) addPublic(path string, absent func() error) error {
	pub, err := readPublicKey(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && l.addIfAgent(pub.Marshal()):
		l.addCertificate(path, pub.Marshal())
		return nil
	}
	return absent()
}

// addCertificate adds the certificate that lies beside the file of a key that was
// added. Whatever can sign for the key can for it. One that cannot be used is a
// problem, and none of the key's.
func (l *loader) addCertificate(path string, blob []byte) {
	path = certificatePath(path)
	cert, err := readCertificate(path, blob)
	switch {
	case err != nil:
		l.problem(err)
	case cert != nil:
		if i := l.index(blob); i >= 0 {
			l.add(key{blob: cert.Marshal(), source: path, signer: l.ids.keys[i].signer})
		}
	}
}

// addIfAgent adds the key whose blob is given if the agent holds it.
func (l *loader) addIfAgent(blob []byte) bool {
	for _, k := range l.agent {
		if string(k.Blob) == string(blob) {
			l.add(l.byAgent(k, FromAgent))
			return true
		}
	}
	return false
}

// index finds what is to be offered, or returns -1.
func (l *loader) index(blob []byte) int {
	return slices.IndexFunc(l.ids.keys, func(o key) bool { return string(o.blob) == string(blob) })
}

// add adds k unless it is there already or the OFFER is full. A certificate goes
// before its key: it is the one that was made for a purpose.
func (l *loader) add(k key) {
	if l.index(k.blob) >= 0 {
		return
	}
	size := l.size + 2 + len(k.blob)
	if len(l.ids.keys) == wire.MaxOffers || 1+size > wire.MaxHandshake {
		l.left++
		return
	}
	l.size = size
	at := len(l.ids.keys)
	if plain := plainBlob(k.blob); plain != nil {
		if i := l.index(plain); i >= 0 {
			at = i
		}
	}
	l.ids.keys = slices.Insert(l.ids.keys, at, k)
}

// plainBlob is the key of the certificate in blob. Nil: it is none.
func plainBlob(blob []byte) []byte {
	if !isCertificate(keyType(blob)) {
		return nil
	}
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil
	}
	return plainKey(pub).Marshal()
}

// fingerprint is that of ssh-keygen -l, for any blob.
func fingerprint(blob []byte) string {
	if plain := plainBlob(blob); plain != nil {
		blob = plain
	}
	return ssh.FingerprintSHA256(&agent.Key{Blob: blob})
}

// keyType is the name that a key's blob starts with.
func keyType(blob []byte) string {
	var k struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(blob, &k); err != nil {
		return ""
	}
	return k.Type
}
