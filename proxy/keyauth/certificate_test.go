package keyauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshka/sshka-proxy/proxy/wire"
)

// authority signs certificates.
type authority struct{ ssh.Signer }

func newAuthority(t *testing.T, kind string) authority {
	t.Helper()
	s, err := ssh.NewSignerFromKey(generate(t, kind))
	must(t, err)
	return authority{s}
}

// line is its line in authorized_keys.
func (a authority) line(options string) string {
	return strings.Trim("cert-authority,"+options, ",") + " " + line(a.PublicKey())
}

// issue makes a certificate that nothing is wrong with, but for what edit does.
func (a authority) issue(t *testing.T, key ssh.PublicKey, edit func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	now := time.Now()
	cert := &ssh.Certificate{
		Key: key, CertType: ssh.UserCert, KeyId: "me@example", ValidPrincipals: []string{"dev", "me"},
		ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{
			CriticalOptions: map[string]string{}, Extensions: map[string]string{"permit-port-forwarding": "", "permit-pty": ""},
		},
	}
	if edit != nil {
		edit(cert)
	}
	must(t, cert.SignCert(rand.Reader, a.Signer))
	return cert
}

// fileOf returns the AuthorizedKeys of a file with lines.
func fileOf(t *testing.T, account string, lines ...string) *AuthorizedKeys {
	t.Helper()
	path := filepath.Join(privateDir(t), "authorized_keys")
	writeFile(t, path, strings.Join(lines, "\n")+"\n", 0o600)
	return NewAuthorizedKeys(path, account, func(p Problem) { t.Log(p) })
}

// writeCertificate puts cert beside the key at path.
func writeCertificate(t *testing.T, path string, cert *ssh.Certificate) {
	t.Helper()
	writeFile(t, path+"-cert.pub", line(cert)+" me@example\n", 0o644)
}

func TestCertificateIsProvenOverTLS(t *testing.T) {
	for _, kind := range kinds {
		for _, caKind := range []string{"ed25519", "ecdsa256"} {
			for _, by := range []string{"file", "agent", "agent by file"} {
				t.Run(kind+" of "+caKind+" by "+by, func(t *testing.T) {
					ca, k := newAuthority(t, caKind), generate(t, kind)
					cert := ca.issue(t, public(t, k), nil)
					path := writeKey(t, k, "")
					s := Sources{List: []string{path}}
					switch by {
					case "file":
						writeCertificate(t, path, cert)
					case "agent":
						ring := keyring(t, k)
						must(t, ring.Add(agent.AddedKey{PrivateKey: k, Certificate: cert}))
						s = Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, ring)}
					default: // the agent has the key, the certificate lies in a file
						writeCertificate(t, path, cert)
						s.AgentSocket = serveAgent(t, keyring(t, k))
					}
					ids := load(t, s)
					if offered := ids.Keys(); len(offered) != 2 || !isCertificate(offered[0].Type) || isCertificate(offered[1].Type) {
						t.Fatalf("offers %+v", offered)
					}
					list := fileOf(t, "", ca.line(`principals="ops,me"`)+" the authority")
					o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: list})
					if o.proveErr != nil || o.verErr != nil {
						t.Fatalf("proxy: %v, relay: %v", o.proveErr, o.verErr)
					}
					want := "CA " + ssh.FingerprintSHA256(ca.PublicKey()) + ` id "me@example"`
					if o.who.Fingerprint != want || o.who.Grant.Line != 1 || o.who.Grant.Comment != "the authority" {
						t.Errorf("authenticated %+v, want %s", o.who, want)
					}
				})
			}
		}
	}
}

// sha1Signer signs with SHA-1, as an old authority did.
type sha1Signer struct{ ssh.AlgorithmSigner }

func (s sha1Signer) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(r, data, ssh.KeyAlgoRSA)
}

// TestCertificatesThatAreNotAccepted: each is wrong in one way.
func TestCertificatesThatAreNotAccepted(t *testing.T) {
	ca, foreign := newAuthority(t, "ed25519"), newAuthority(t, "ed25519")
	rsaCA, err := ssh.NewSignerFromKey(rsaKey())
	must(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	shortCA, err := ssh.NewSignerFromKey(short)
	must(t, err)
	k := generate(t, "ed25519")
	key := public(t, k)
	good := ca.issue(t, key, nil)
	options := func(name, value string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) { c.CriticalOptions[name] = value }
	}
	sha1 := authority{rsaCA}.issue(t, key, nil)
	{ // SignCert itself signs with SHA-512
		unsigned := *sha1
		unsigned.Signature = nil
		blob := unsigned.Marshal()
		sha1.Signature, err = sha1Signer{rsaCA.(ssh.AlgorithmSigner)}.Sign(rand.Reader, blob[:len(blob)-4])
		must(t, err)
	}
	altered := *good
	altered.ValidPrincipals = []string{"me", "root"}

	const named = `principals="me"`
	now := time.Now()
	for name, c := range map[string]struct {
		key     ssh.PublicKey
		line    string
		account string
		ok      bool
	}{
		"good":                          {good, ca.line(named), "", true},
		"good for the account":          {good, ca.line(""), "dev", true},
		"for another account":           {good, ca.line(""), "root", false},
		"for another principal":         {good, ca.line(`principals="ops,ME,m"`), "me", false},
		"no account, none named":        {good, ca.line(""), "", false},
		"foreign authority":             {foreign.issue(t, key, nil), ca.line(named), "", false},
		"no authority":                  {good, line(ca.PublicKey()), "", false},
		"authority as a key":            {ca.PublicKey(), ca.line(named), "", false},
		"its key without it":            {key, ca.line(named), "", false},
		"host":                          {ca.issue(t, key, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), ca.line(named), "", false},
		"type 0":                        {ca.issue(t, key, func(c *ssh.Certificate) { c.CertType = 0 }), ca.line(named), "", false},
		"no principals":                 {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), ca.line(named), "", false},
		"no principals, account":        {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), ca.line(""), "me", false},
		"empty principal":               {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{""} }), ca.line(""), "", false},
		"expired":                       {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Add(-time.Second).Unix()) }), ca.line(named), "", false},
		"not yet valid":                 {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Add(time.Minute).Unix()) }), ca.line(named), "", false},
		"valid before the year 292e9":   {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidBefore = 1 << 63 }), ca.line(named), "", false},
		"valid for ever":                {ca.issue(t, key, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }), ca.line(named), "", true},
		"from here":                     {ca.issue(t, key, options("source-address", "10.0.0.0/8,192.0.2.0/24")), ca.line(named), "", true},
		"from elsewhere":                {ca.issue(t, key, options("source-address", "10.0.0.0/8,192.0.3.0/24")), ca.line(named), "", false},
		"from nonsense":                 {ca.issue(t, key, options("source-address", "192.0.2.0/24,x")), ca.line(named), "", false},
		"from a negation":               {ca.issue(t, key, options("source-address", "!10.0.0.0/8")), ca.line(named), "", false},
		"from nowhere":                  {ca.issue(t, key, options("source-address", "")), ca.line(named), "", false},
		"force-command":                 {ca.issue(t, key, options("force-command", "true")), ca.line(named), "", false},
		"unknown critical option":       {ca.issue(t, key, options("colour@example.com", "")), ca.line(named), "", false},
		"verify-required":               {ca.issue(t, key, options("verify-required", "")), ca.line(named), "", true},
		"no forwarding":                 {ca.issue(t, key, func(c *ssh.Certificate) { delete(c.Extensions, "permit-port-forwarding") }), ca.line(named), "", false},
		"unknown extension":             {ca.issue(t, key, func(c *ssh.Certificate) { c.Extensions["x@example.com"] = "" }), ca.line(named), "", true},
		"altered":                       {&altered, ca.line(named), "", false},
		"RSA authority":                 {authority{rsaCA}.issue(t, key, nil), authority{rsaCA}.line(named), "", true},
		"RSA authority with SHA-1":      {sha1, authority{rsaCA}.line(named), "", false},
		"weak authority":                {authority{shortCA}.issue(t, key, nil), authority{shortCA}.line(named), "", false},
		"weak key":                      {ca.issue(t, shortCA.PublicKey(), nil), ca.line(named), "", false},
		"line expired":                  {good, ca.line(named + `,expiry-time="20200101"`), "", false},
		"line for another address":      {good, ca.line(named + `,from="10.0.0.0/8"`), "", false},
		"line grants no forwarding":     {good, ca.line(named + `,restrict`), "", false},
		"line with a forced command":    {good, ca.line(named + `,command="true"`), "", false},
		"refused line, then a good one": {good, ca.line(named+`,command="true"`) + "\n" + ca.line(named), "", false},
		"other principal, then its own": {good, ca.line(`principals="ops"`) + "\n" + ca.line(named), "", true},
	} {
		offer := &wire.Offer{Keys: [][]byte{c.key.Marshal()}}
		_, picked := (&Verifier{Authorizer: fileOf(t, c.account, c.line)}).pick(offer, addr)
		if (picked != nil) != c.ok {
			t.Errorf("%s: picked %v, want %v", name, picked != nil, c.ok)
		}
	}
}

// TestSHA1CertificateIsOneThatXCryptoBelieves: else the case above proves nothing.
func TestSHA1CertificateIsOneThatXCryptoBelieves(t *testing.T) {
	rsaCA, err := ssh.NewSignerFromKey(rsaKey())
	must(t, err)
	cert := authority{rsaCA}.issue(t, public(t, generate(t, "ed25519")), nil)
	unsigned := *cert
	unsigned.Signature = nil
	blob := unsigned.Marshal()
	cert.Signature, err = sha1Signer{rsaCA.(ssh.AlgorithmSigner)}.Sign(rand.Reader, blob[:len(blob)-4])
	must(t, err)
	must(t, new(ssh.CertChecker).CheckCert("me", cert))
	if err := checkCertificate(cert, time.Now()); err == nil || !strings.Contains(err.Error(), `signature format "ssh-rsa"`) {
		t.Errorf("%v", err)
	}
}

// TestTheTimeOfACertificateCountsAtItsProofOnly, all else whenever it is asked.
func TestTheTimeOfACertificateCountsAtItsProofOnly(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	list := fileOf(t, "", ca.line(`principals="me"`))
	old := ca.issue(t, public(t, generate(t, "ed25519")), func(c *ssh.Certificate) {
		c.ValidBefore = uint64(time.Now().Add(-time.Hour).Unix())
		c.CriticalOptions["source-address"] = "192.0.2.0/24"
	})
	if err := checkOffered(old); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("offered: %v", err)
	}
	if _, ok := list.Authorize(old, addr); !ok {
		t.Error("not authorized again")
	}
	if _, ok := list.Recheck(old, addr); !ok {
		t.Error("not authorized at a recheck")
	}
	if _, ok := list.Authorize(old, netip.MustParseAddr("198.51.100.1")); ok {
		t.Error("authorized from another address")
	}
}

func TestAReissuedCertificateIsTheSameIdentityAndNoOtherIs(t *testing.T) {
	ca, other := newAuthority(t, "ed25519"), newAuthority(t, "ed25519")
	key := func() ssh.PublicKey { return public(t, generate(t, "ed25519")) }
	named := func(id string) func(*ssh.Certificate) { return func(c *ssh.Certificate) { c.KeyId = id } }
	first := identityName(ca.issue(t, key(), nil))
	if again := identityName(ca.issue(t, key(), func(c *ssh.Certificate) { c.Serial = 7; c.ValidPrincipals = []string{"me"} })); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	long := strings.Repeat("x", maxKeyID)
	k := key()
	names := []string{first, identityName(k)}
	for _, cert := range []*ssh.Certificate{
		other.issue(t, k, nil), ca.issue(t, k, named("you@example")), ca.issue(t, k, named("")), ca.issue(t, key(), named("")),
		ca.issue(t, k, named(long)), ca.issue(t, k, named(long+"1")), ca.issue(t, k, named(long+"2")), ca.issue(t, k, named(long+`"... SHA256:x`)),
		ca.issue(t, k, named("a\nkey=b \x1b[2J\u202e\xff")), ca.issue(t, k, named(`a\nkey=b`)),
	} {
		name := identityName(cert)
		if slices.Contains(names, name) {
			t.Errorf("%q is two", name)
		}
		names = append(names, name)
		for _, c := range []byte(name) {
			if c < ' ' || c > '~' {
				t.Errorf("%q holds %q", name, c)
			}
		}
		if len(name) > 600 {
			t.Errorf("a name of %d bytes", len(name))
		}
	}
}

func TestAProofForACertificateIsByItsKey(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	k, thief := generate(t, "ed25519"), generate(t, "ed25519")
	cert := ca.issue(t, public(t, k), nil)
	e := connect(t, relayCert(t))
	for name, c := range map[string]struct {
		by crypto.Signer
		ok bool
	}{"its key": {k, true}, "another key": {thief, false}} {
		signer, err := ssh.NewSignerFromKey(c.by)
		must(t, err)
		blob, err := sign(context.Background(), &key{blob: cert.Marshal(), signer: memorySigner{signer}}, e.proxyBinds)
		must(t, err)
		if err := checkProof(blob, cert.Marshal(), cert, e.relayBinds, &Grant{}); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACertificateBesideAKeyIsOfferedBeforeIt(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	k, other := generate(t, "ed25519"), generate(t, "ed25519")
	cert := ca.issue(t, public(t, k), nil)
	path := writeKey(t, k, "")
	writeCertificate(t, path, cert)
	socket := serveAgent(t, keyring(t, other, k))
	// The agent's keys come first, and still the certificate goes before its key.
	ids := load(t, Sources{List: []string{FromAgent, path}, AgentSocket: socket})
	want := [][]byte{public(t, other).Marshal(), cert.Marshal(), public(t, k).Marshal()}
	if got := ids.Offer().Keys; !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("offers %+v", ids.Keys())
	}
	if k := ids.Keys()[1]; k.Source != path+"-cert.pub" || k.Fingerprint != ssh.FingerprintSHA256(cert.Key) {
		t.Errorf("described as %+v", k)
	}

	for text, want := range map[string]string{
		line(ca.PublicKey()):                     "is no certificate",
		"nonsense":                               "is no certificate",
		line(ca.issue(t, public(t, other), nil)): "is for another key than the one beside it",
		line(ca.issue(t, public(t, k), func(c *ssh.Certificate) { c.CertType = ssh.HostCert })): "is not a user's certificate",
	} {
		writeFile(t, path+"-cert.pub", text+"\n", 0o644)
		ids := load(t, Sources{List: []string{path}})
		if got := texts(ids.Problems()); len(ids.Keys()) != 1 || len(got) != 1 || !strings.HasPrefix(got[0], path+"-cert.pub "+want) {
			t.Errorf("%.20q: offers %+v, problems %q", text, ids.Keys(), got)
		}
	}
	_, err := Load(context.Background(), Sources{List: []string{path + "-cert.pub"}, Explicit: true})
	if err == nil {
		t.Error("a certificate is taken for a key")
	}
}

func TestCertificatesKeepToTheBoundsOfAnOffer(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	ring := agent.NewKeyring()
	for range 40 {
		k := generate(t, "ed25519")
		must(t, ring.Add(agent.AddedKey{PrivateKey: k}))
		must(t, ring.Add(agent.AddedKey{PrivateKey: k, Certificate: ca.issue(t, public(t, k), nil)}))
	}
	ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, ring)})
	if n := len(wire.Append(nil, ids.Offer())); n > 3+wire.MaxHandshake+1 || len(ids.Keys()) > wire.MaxOffers {
		t.Errorf("%d keys, %d bytes", len(ids.Keys()), n)
	}
	if p := texts(ids.Problems()); len(p) != 1 || !strings.Contains(p[0], "left out") {
		t.Errorf("problems %q", p)
	}
}

// TestCertificatesOfSSHKeygen: the file that ssh-keygen -s writes, its options, and
// ssh-keygen -Y verify for those who audit.
func TestCertificatesOfSSHKeygen(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("no ssh-keygen here")
	}
	dir := privateDir(t)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(keygen, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "ca")
	run("-q", "-t", "ed25519", "-N", "", "-f", "id")
	caLine, err := os.ReadFile(filepath.Join(dir, "ca.pub"))
	must(t, err)
	list := fileOf(t, "me", "cert-authority "+string(caLine))
	for name, c := range map[string]struct {
		args []string
		ok   bool
	}{
		"good":           {[]string{"-n", "me,other"}, true},
		"other":          {[]string{"-n", "other"}, false},
		"nobody":         {nil, false},
		"host":           {[]string{"-h", "-n", "me"}, false},
		"forced":         {[]string{"-n", "me", "-O", "force-command=true"}, false},
		"no forwarding":  {[]string{"-n", "me", "-O", "no-port-forwarding"}, false},
		"source":         {[]string{"-n", "me", "-O", "source-address=192.0.2.0/24"}, true},
		"another source": {[]string{"-n", "me", "-O", "source-address=198.51.100.0/24"}, false},
		"expired":        {[]string{"-n", "me", "-V", "20200101:20200102"}, false},
		"SHA-1":          {[]string{"-n", "me", "-t", "ssh-rsa"}, false},
	} {
		run(append(append([]string{"-q", "-s", "ca", "-I", "me@example"}, c.args...), "id.pub")...)
		ids := load(t, Sources{List: []string{filepath.Join(dir, "id")}})
		_, key := (&Verifier{Authorizer: list}).pick(ids.Offer(), addr)
		if (key != nil) != c.ok {
			t.Errorf("%s: picked %v, want %v (%q)", name, key != nil, c.ok, texts(ids.Problems()))
		}
	}
}

func TestSecurityKeyOptions(t *testing.T) {
	const touched, verified = 1, 4
	for _, c := range []struct {
		options string
		flags   byte
		ok      bool
	}{
		{"", touched, true},
		{"", 0, false},
		{"", verified, false},
		{"no-touch-required ", 0, true},
		{"no-touch-required ", touched, true},
		{"verify-required ", touched, false},
		{"verify-required ", touched | verified, true},
		{"verify-required ", verified, false},
		{"no-touch-required,verify-required ", 0, false},
		{"no-touch-required,verify-required ", verified, true},
	} {
		h := newHardware(t, c.flags)
		ids := load(t, Sources{List: []string{FromAgent}, AgentSocket: serveAgent(t, h)})
		o := handshake(t, connect(t, relayCert(t)), ids, &Verifier{Authorizer: fileOf(t, "", c.options+line(h.public()))})
		var want Reason
		if !c.ok {
			want = ReasonBadSignature
		}
		var got Reason
		if v, ok := errors.AsType[*VerifyError](o.verErr); ok {
			got = v.Reason
		}
		if got != want {
			t.Errorf("%q, flags %d: %v, want reason %q", c.options, c.flags, o.verErr, want)
		}
	}
}

func TestACertificateOfASecurityKeyAndItsLineMustBothForgoTheTouch(t *testing.T) {
	ca := newAuthority(t, "ed25519")
	h := newHardware(t, 0)
	for _, c := range []struct {
		line, cert, ok bool
	}{{false, false, false}, {true, false, false}, {false, true, false}, {true, true, true}} {
		cert := ca.issue(t, h.public(), func(cert *ssh.Certificate) {
			if c.cert {
				cert.Extensions["no-touch-required"] = ""
			}
		})
		options := `principals="me"`
		if c.line {
			options += ",no-touch-required"
		}
		g, ok := fileOf(t, "", ca.line(options)).Authorize(cert, addr)
		if !ok || g.NoTouch != c.ok {
			t.Errorf("%+v: %+v %v", c, g, ok)
		}
		e := connect(t, relayCert(t))
		blob, err := sign(context.Background(), &key{blob: cert.Marshal(), signer: hardwareSigner{h}}, e.proxyBinds)
		must(t, err)
		if err := checkProof(blob, cert.Marshal(), cert, e.relayBinds, &g); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

type hardwareSigner struct{ h *hardware }

func (s hardwareSigner) sign(_ context.Context, data []byte) (*ssh.Signature, error) {
	return s.h.SignWithFlags(nil, data, 0)
}

func TestAnUntouchedSignatureIsStillVerified(t *testing.T) {
	h, data := newHardware(t, 0), []byte("data")
	sig, err := h.SignWithFlags(nil, data, 0)
	must(t, err)
	g := &Grant{NoTouch: true}
	must(t, checkSecurityKey(h.public(), data, sig, g))
	if checkSecurityKey(newHardware(t, 0).public(), data, sig, g) == nil {
		t.Error("valid for another key")
	}
	if checkSecurityKey(h.public(), []byte("date"), sig, g) == nil {
		t.Error("valid for other data")
	}
	sig.Rest[4]++ // the counter
	if checkSecurityKey(h.public(), data, sig, g) == nil {
		t.Error("valid with another counter")
	}
	sig.Rest = append(sig.Rest, 0)
	if checkSecurityKey(h.public(), data, sig, g) == nil {
		t.Error("bytes after it")
	}
}

func TestAnUntouchedSignatureByECDSAIsVerifiedToo(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := priv.PublicKey.Bytes()
	must(t, err)
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Curve, Point, App string }{
		ssh.KeyAlgoSKECDSA256, "nistp256", string(point), "ssh:work",
	}))
	must(t, err)
	data := []byte("data")
	signed := func(flags byte) *ssh.Signature {
		app, message := sha256.Sum256([]byte("ssh:work")), sha256.Sum256(data)
		digest := sha256.Sum256(bytes.Join([][]byte{app[:], {flags, 0, 0, 0, 9}, message[:]}, nil))
		r, s, err := ecdsa.Sign(rand.Reader, priv, digest[:])
		must(t, err)
		return &ssh.Signature{
			Format: ssh.KeyAlgoSKECDSA256, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, s}), Rest: []byte{flags, 0, 0, 0, 9},
		}
	}
	must(t, checkSecurityKey(pub, data, signed(flagPresent), &Grant{}))
	must(t, checkSecurityKey(pub, data, signed(0), &Grant{NoTouch: true}))
	if checkSecurityKey(pub, data, signed(0), &Grant{}) == nil {
		t.Error("valid without a touch")
	}
	if checkSecurityKey(pub, []byte("date"), signed(0), &Grant{NoTouch: true}) == nil {
		t.Error("valid for other data")
	}
	relabelled := signed(0)
	relabelled.Rest[0] = flagVerified
	if checkSecurityKey(pub, data, relabelled, &Grant{NoTouch: true, VerifyUser: true}) == nil {
		t.Error("valid with other flags")
	}
}
