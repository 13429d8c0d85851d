package keyauth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// format writes opts as parseOptions reads them.
func format(opts []option) string {
	parts := make([]string, len(opts))
	for i, o := range opts {
		parts[i] = o.name
		if o.valued {
			parts[i] += `="` + strings.ReplaceAll(o.value, `"`, `\"`) + `"`
		}
	}
	return strings.Join(parts, ",")
}

func TestOptionsAreReadAsSSHDReadsThem(t *testing.T) {
	for in, want := range map[string]struct {
		opts []option
		rest string
	}{
		`restrict k`:                 {[]option{{"restrict", "", false}}, "k"},
		`Restrict,PTY  k x `:         {[]option{{"restrict", "", false}, {"pty", "", false}}, "k x"},
		"from=\"a b,c\t\"\tk":        {[]option{{"from", "a b,c\t", true}}, "k"},
		`command="say \"hi\" \n" k`:  {[]option{{"command", `say "hi" \n`, true}}, "k"},
		`command="a\\" b" k`:         {[]option{{"command", `a\" b`, true}}, "k"},
		`from="",permitopen="h:*" k`: {[]option{{"from", "", true}, {"permitopen", "h:*", true}}, "k"},
		`restrict`:                   {[]option{{"restrict", "", false}}, ""},
	} {
		opts, rest, err := parseOptions(in)
		if err != nil || rest != want.rest || !slices.Equal(opts, want.opts) {
			t.Errorf("%q: %+v, %q, %v, want %+v", in, opts, rest, err, want)
		}
	}
}

func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		`restrict,permitopen="a:22" k`, `command="\"\\" k`, `a="b"c k`, ",", `a=`, `a="`, `a="\"`, "A-B,a-b\tx", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		opts, rest, err := parseOptions(s)
		if err != nil {
			if opts != nil || rest != "" {
				t.Fatalf("%q: error and options %+v %q", s, opts, rest)
			}
			return
		}
		if len(opts) == 0 {
			t.Fatalf("%q: no options and no error", s)
		}
		if !strings.HasSuffix(trimBlanks(s), rest) {
			t.Fatalf("%q: rest %q is not its end", s, rest)
		}
		again, rest2, err := parseOptions(format(opts) + " " + rest)
		if err != nil || rest2 != rest || !slices.Equal(again, opts) {
			t.Fatalf("%q: %+v, %q then %+v, %q, %v", s, opts, rest, again, rest2, err)
		}
	})
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{
		edLine, "restrict " + edLine, `command="x" ` + edLine + " me", "ssh-rsa AAAA", "ssh-dss " + b64(dsaBlob()), "# x", "\r", "a b c",
		`from="ssh-ed25519 ` + edLine + `" `, `from="10.0.0.0/8,!10.1.*",permitopen="[::1]:22",permitopen="*" ` + edLine + " a b",
		`cert-authority,principals="a,\"b",expiry-time="20300101Z",restrict,port-forwarding ` + edLine,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\n") {
			return
		}
		e, err := parseLine(s)
		if err != nil || e.key == nil {
			return
		}
		// Whatever is accepted is of an accepted type, and is the key that x/crypto
		// finds when it is given this line alone, with the same options.
		if err := checkKeyType(e.key); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		key, comment, theirs, _, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil || comment != e.comment || !bytes.Equal(key.Marshal(), e.key.Marshal()) {
			t.Fatalf("%q: %q %q, x/crypto says %v %q %q %v", s, e.key.Type(), e.comment, key, comment, theirs, err)
		}
		var opts []option
		if len(theirs) > 0 {
			opts, _, _ = parseOptions(trimBlanks(s))
		}
		if len(opts) != len(theirs) || len(opts) == 0 && !reflect.DeepEqual(e.terms, terms{}) {
			t.Fatalf("%q: options %+v, x/crypto says %q", s, opts, theirs)
		}
		// And it comes back from its canonical form.
		head := ""
		if len(opts) > 0 {
			head = format(opts) + " "
		}
		again, err := parseLine(head + line(e.key) + " " + e.comment)
		if err != nil || !reflect.DeepEqual(again.terms, e.terms) || again.comment != e.comment || !bytes.Equal(again.key.Marshal(), e.key.Marshal()) {
			t.Fatalf("%q comes back as %+v, %v", s, again, err)
		}
	})
}

func FuzzSSHSIG(f *testing.F) {
	b := Binding{Exporter: [32]byte{7}}
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	must(f, err)
	pub := signer.PublicKey()
	good := forge(f, signer, b, "", nil, nil)
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte("SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, err := parseSSHSIG(blob)
		if err == nil && !bytes.Equal(ssh.Marshal(*s), blob) {
			t.Fatalf("%q is read as %+v, which is written otherwise", blob, s)
		}
		// Ed25519 signatures are of one form only: nothing but the original is
		// valid.
		if checkProof(blob, pub.Marshal(), pub, b, &Grant{}) == nil && !bytes.Equal(blob, good) {
			t.Fatalf("%q is valid too", blob)
		}
	})
}
