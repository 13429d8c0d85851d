package keyauth

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// line is the authorized_keys line of key, without its end.
func line(key ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
}

// Two keys that stay the same, so that a whole message can be compared.
const (
	edLine  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	edLine2 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
)

func TestAuthorizedKeysLines(t *testing.T) {
	blob := strings.Fields(edLine)[1]
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	ca, err := ssh.NewSignerFromKey(generate(t, "ed25519"))
	must(t, err)
	cert := &ssh.Certificate{Key: ca.PublicKey(), ValidBefore: ssh.CertTimeInfinity}
	must(t, cert.SignCert(rand.Reader, ca))
	const sk = "sk-ssh-ed25519@openssh.com"
	skKey, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, App string }{sk, strings.Repeat("k", 32), "ssh:"}))
	must(t, err)

	for _, c := range []struct {
		line string
		keys int
		want string // the problem's text, "" for none
	}{
		{"", 0, ""},
		{" \t", 0, ""},
		{"# " + edLine, 0, ""},
		{"\t # indented", 0, ""},
		{edLine, 1, ""},
		{edLine + "\r", 1, ""},
		{"  " + edLine + "  me@example.com  ", 1, ""},
		{strings.Replace(edLine, " ", " \t ", 1), 1, ""},
		{line(public(t, generate(t, "ecdsa521"))), 1, ""},
		{line(public(t, generate(t, "rsa"))), 1, ""},
		{line(skKey), 1, ""},

		{"ssh-ed25519", 0, `no key after "ssh-ed25519"`},
		{"ssh-ed25519 AAAA*", 0, "key is not base64: illegal base64 data at input byte 4"},
		{edLine[:len(edLine)-4], 0, "malformed key: ssh: short read"},
		{edLine + "AAAA", 0, "malformed key: ssh: trailing junk in public key"},
		{"ssh-ed25519 AAAA", 0, `key type is "ssh-ed25519", the key's own is ""`},
		{"ssh-rsa " + blob, 0, `key type is "ssh-rsa", the key's own is "ssh-ed25519"`},
		{"restrict " + blob, 0, `unknown key type "restrict"`},
		{"ssh-foo " + blob, 0, `unknown key type "ssh-foo"`},
		{"ssh-dss " + b64(dsaBlob()), 0, "keys of type ssh-dss are not accepted"},
		{line(public(t, short)), 0, "an RSA key needs at least 2048 bits, this one is shorter"},
		{line(cert), 0, "a certificate (ssh-ed25519-cert-v01@openssh.com) is not accepted in place of a key"},
		{"\ufeff" + edLine, 0, `unknown key type "\ufeffssh-ed25519"`},

		{"restrict " + edLine, 0, "grants no TCP forwarding: restrict without port-forwarding after it"},
		{"port-forwarding,Restrict " + edLine, 0, "grants no TCP forwarding: restrict without port-forwarding after it"},
		{"restrict,port-forwarding " + edLine, 1, ""},
		{"No-PTY,Restrict,Port-Forwarding " + edLine, 1, ""},
		{"no-port-forwarding " + edLine, 0, "grants no TCP forwarding: no-port-forwarding"},
		{"no-port-forwarding,port-forwarding " + edLine, 1, ""},
		{"no-pty,no-X11-forwarding,no-agent-forwarding,no-user-rc " + edLine, 1, ""},
		{`pty,x11-forwarding,agent-forwarding,user-rc,environment="A=b" ` + edLine, 1, ""},
		{"no-touch-required,verify-required " + line(skKey), 1, ""},

		{`permitopen="localhost:22" ` + edLine, 1, ""},
		{`permitopen="localhost:22",permitopen="*:443",permitopen="[::1]:*",permitopen="*" ` + edLine, 1, ""},
		{`permitopen="localhost" ` + edLine, 0, `option "permitopen": "localhost" is no target; write host:port, host:* or *:port, an IPv6 address in brackets`},
		{`permitopen="::1:22" ` + edLine, 0, `option "permitopen": "::1:22" is no target; write host:port, host:* or *:port, an IPv6 address in brackets`},
		{`permitopen="*.lan:22" ` + edLine, 0, `option "permitopen": "*.lan:22": no patterns, only * alone; write host:port, host:* or *:port, an IPv6 address in brackets`},
		{`permitopen="[db]:22" ` + edLine, 0, `option "permitopen": "[db]:22": only an IPv6 address stands in brackets`},
		{`permitopen="db:ssh" ` + edLine, 0, `option "permitopen": "db:ssh": the port is a number from 1 to 65535, or *`},
		{`permitopen="db:0" ` + edLine, 0, `option "permitopen": "db:0": the port is a number from 1 to 65535, or *`},

		{`from="10.0.0.0/8,!10.1.2.3" ` + edLine, 1, ""},
		{`from="*.example.com,192.0.2.?" ` + edLine, 1, ""},
		{`from="*.example.com" ` + edLine, 0, `option "from": "*.example.com" lets nobody in: it needs an address, a CIDR or a glob of addresses; names of clients are not looked up`},
		{`from="!10.1.2.3" ` + edLine, 0, `option "from": "!10.1.2.3" lets nobody in: it needs an address, a CIDR or a glob of addresses; names of clients are not looked up`},
		{`from="*,!*.example.com" ` + edLine, 0, `option "from": "!*.example.com" would exclude nobody: names of clients are not looked up; write an address or a CIDR`},
		{`from="10.0.0.1/8" ` + edLine, 0, `option "from": "10.0.0.1/8" has bits beyond its length; write 10.0.0.0/8`},
		{`from="10.0.0.0/33" ` + edLine, 0, `option "from": "10.0.0.0/33" is no CIDR`},
		{`from="" ` + edLine, 0, `option "from": a pattern is empty`},
		{`from="1.2.3.4,,2.3.4.5" ` + edLine, 0, `option "from": a pattern is empty`},
		{`from="1.2.3.4",from="2.3.4.5" ` + edLine, 0, `option "from": given twice`},
		{`from="fe80::1%eth0" ` + edLine, 0, `option "from": "fe80::1%eth0": an address with a zone is not matched`},

		{`expiry-time="20990101"` + "\t" + edLine, 1, ""},
		{`expiry-time="20300101Z",expiry-time="203001012359",expiry-time="20300101235959Z" ` + edLine, 1, ""},
		{`expiry-time="2030-01-01" ` + edLine, 0, `option "expiry-time": "2030-01-01" is no time; write YYYYMMDD or YYYYMMDDHHMM[SS], with a Z behind it for UTC`},
		{`expiry-time="20300231" ` + edLine, 0, `option "expiry-time": "20300231": there is no such time`},

		{"cert-authority " + edLine, 0, `option "cert-authority" needs principals="..." beside it: this relay serves no single account whose name a certificate could hold`},
		{`cert-authority,principals="a,b" ` + edLine, 1, ""},
		{`cert-authority,principals="," ` + edLine, 0, `option "principals": names nobody`},
		{`cert-authority,principals="a",principals="b" ` + edLine, 0, `option "principals": given twice`},
		{`principals="a" ` + edLine, 0, `option "principals" means something with cert-authority only`},
		{`command="echo \"a, b\"",no-pty ` + edLine, 0, `option "command": refused: a forced command must not get raw TCP`},
		{`tunnel="0" ` + edLine, 0, `option "tunnel": refused: a key for a tunnel device must not get raw TCP`},
		{`permitlisten="8080" ` + edLine, 0, `option "permitlisten": refused: a key for listening ports must not get raw TCP`},
		{"restict " + edLine, 0, `unknown option "restict"`},
		{`restrict="x" ` + edLine, 0, `option "restrict" takes no value`},
		{"from " + edLine, 0, `option "from" needs a value: from="..."`},
		{"from=10.0.0.1 " + edLine, 0, `option "from": its value is not quoted`},
		{`from="10.0.0.1 ` + edLine, 0, `option "from": its quote is not closed`},
		{`from="a"b ` + edLine, 0, `malformed options at "b ssh-ed25519 AAAAC3"...`},
		{"restrict,, " + edLine, 0, `malformed options at ", ssh-ed25519 AAAAC3"...`},
		{"restrict,", 0, `malformed options at the end of the line`},
		{"restrict", 0, "grants no TCP forwarding: restrict without port-forwarding after it"},
		{strings.Repeat("x", maxLine+1), 0, "line of 16385 bytes, at most 16384"},
	} {
		path := filepath.Join(privateDir(t), "authorized_keys")
		// A line before and a good one after: a bad line harms no other.
		writeFile(t, path, "# head\n"+c.line+"\n"+edLine2+"\n", 0o600)
		keys, problems := Check(path, "")
		if keys != c.keys+1 {
			t.Errorf("%.60q: %d keys, want %d", c.line, keys, c.keys+1)
		}
		var want []Problem
		if c.want != "" {
			want = []Problem{{path, 2, c.want}}
		}
		if !slices.Equal(problems, want) {
			t.Errorf("%.60q: problems %q, want %q", c.line, problems, want)
		}
	}
}

func TestProblemTellsItsPlace(t *testing.T) {
	if got := (Problem{"/f", 3, "bad"}).String(); got != "/f:3: bad" {
		t.Error(got)
	}
	if got := (Problem{"/f", 0, "bad"}).String(); got != "/f: bad" {
		t.Error(got)
	}
}

func TestEveryOptionOfSSHDIsKnown(t *testing.T) {
	values := map[string]string{"expiry-time": "20300101", "from": "10.0.0.1", "permitopen": "a:1"}
	for _, name := range strings.Fields(`agent-forwarding cert-authority command environment expiry-time from
		no-agent-forwarding no-port-forwarding no-pty no-touch-required no-user-rc no-X11-forwarding permitlisten permitopen
		port-forwarding principals pty restrict tunnel user-rc verify-required X11-forwarding`) {
		rule, ok := optionRules[strings.ToLower(name)]
		if !ok {
			t.Errorf("%s is not known", name)
			continue
		}
		if rule.valued {
			name += `="` + cmp.Or(values[name], "x") + `"`
		}
		e, err := parseLine(name + " " + edLine)
		if e.key == nil || err != nil && (strings.Contains(err.Error(), "unknown option") || strings.Contains(err.Error(), "value")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFirstLineOfAKeyCounts as it does for sshd: a forced command is not shaken
// off by a second line.
func TestFirstLineOfAKeyCounts(t *testing.T) {
	path := filepath.Join(privateDir(t), "authorized_keys")
	forced := `command="true" ` + edLine
	writeFile(t, path, forced+"\n"+edLine+"\n"+edLine2+" first\n"+edLine2+" second\n"+`command="true" `+edLine2+"\n", 0o600)
	keys, problems := Check(path, "")
	want := []Problem{
		{path, 1, `option "command": refused: a forced command must not get raw TCP`},
		{path, 2, "the same key is refused on line 1, and its first line counts"},
		{path, 5, `option "command": refused: a forced command must not get raw TCP`},
	}
	if keys != 1 || !slices.Equal(problems, want) {
		t.Errorf("%d keys, problems %q", keys, problems)
	}
	a := NewAuthorizedKeys(path, "", nil)
	if _, ok := a.Authorize(parsed(t, edLine), addr); ok {
		t.Error("the key with the forced command is authorized")
	}
	if g, ok := a.Authorize(parsed(t, edLine2), addr); !ok || !reflect.DeepEqual(g, Grant{File: path, Line: 3, Comment: "first"}) {
		t.Errorf("%+v, %v, want line 3", g, ok)
	}
}

func parsed(t *testing.T, s string) ssh.PublicKey {
	t.Helper()
	e, err := parseLine(s)
	must(t, err)
	return e.key
}

// watched is an AuthorizedKeys and what it reported since it was last asked.
type watched struct {
	*AuthorizedKeys
	path     string
	reported []string
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{path: filepath.Join(privateDir(t), "authorized_keys")}
	w.AuthorizedKeys = NewAuthorizedKeys(w.path, "", func(p Problem) {
		w.reported = append(w.reported, strings.TrimPrefix(p.String(), w.path))
	})
	return w
}

// expect asks whether the keys of both lines are authorized, and what is
// reported meanwhile.
func (w *watched) expect(t *testing.T, one, two bool, reported ...string) {
	t.Helper()
	_, gotOne := w.Authorize(parsed(t, edLine), addr)
	_, gotTwo := w.Authorize(parsed(t, edLine2), addr)
	if gotOne != one || gotTwo != two {
		t.Errorf("authorized %v %v, want %v %v", gotOne, gotTwo, one, two)
	}
	if !slices.Equal(w.reported, reported) {
		t.Errorf("reported %q, want %q", w.reported, reported)
	}
	w.reported = nil
}

func TestChangedFileCountsAtOnceAndReportsOnce(t *testing.T) {
	w := watch(t)
	old := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		writeFile(t, w.path, text, 0o600)
	}
	age := func(at time.Time) { t.Helper(); must(t, os.Chtimes(w.path, at, at)) }

	w.expect(t, false, false, ": authorizes nobody: no such file")
	w.expect(t, false, false)
	write(edLine + "\nnonsense\n")
	w.expect(t, true, false, `:2: unknown option "nonsense"`)
	w.expect(t, true, false) // still young: read again, not reported again
	age(old)
	w.expect(t, true, false)

	// Of the same size, by its time.
	write(edLine2 + "\nnonsense\n")
	w.expect(t, false, true, `:2: unknown option "nonsense"`)
	// Of the same size, within the file system's clock tick: the time is set
	// back to what it was.
	info, err := os.Stat(w.path)
	must(t, err)
	write(edLine + "\nnonsense\n")
	age(info.ModTime())
	w.expect(t, true, false, `:2: unknown option "nonsense"`)

	// Replaced by a file of the same size and time.
	age(old)
	w.expect(t, true, false)
	must(t, os.WriteFile(w.path+".new", []byte(edLine2+"\nnonsense\n"), 0o600))
	must(t, os.Chtimes(w.path+".new", old, old))
	must(t, os.Rename(w.path+".new", w.path))
	w.expect(t, false, true, `:2: unknown option "nonsense"`)

	must(t, os.Remove(w.path))
	w.expect(t, false, false, ": authorizes nobody: no such file")
	write(edLine + "\n" + edLine2)
	w.expect(t, true, true)
}

func TestSettledFileIsNotReadAgain(t *testing.T) {
	w := watch(t)
	old := time.Now().Add(-time.Hour)
	writeFile(t, w.path, edLine+"\n", 0o600)
	must(t, os.Chtimes(w.path, old, old))
	w.expect(t, true, false)
	// What stat does not show is not seen: that is how one notices.
	writeFile(t, w.path, edLine2+"\n", 0o600)
	must(t, os.Chtimes(w.path, old, old))
	w.expect(t, true, false)
}

func TestFileThatOthersMayWriteAuthorizesNobody(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps no such modes")
	}
	w := watch(t)
	dir := filepath.Dir(w.path)
	writeFile(t, w.path, edLine+"\n", 0o644)
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(w.path, old, old))
	w.expect(t, true, false)

	// None of these changes the file's time.
	for _, c := range []struct {
		path     string
		mode     fs.FileMode
		reported string
	}{
		{w.path, 0o664, ": authorizes nobody: may be written by others (mode 0664): chmod go-w " + w.path},
		{w.path, 0o602, ": authorizes nobody: may be written by others (mode 0602): chmod go-w " + w.path},
		{w.path, 0o600, ""},
		{dir, 0o770, ": authorizes nobody: its directory may be written by others (mode 0770): chmod go-w that directory"},
		{dir, 0o777, ": authorizes nobody: its directory may be written by others (mode 0777): chmod go-w that directory"},
		{dir, 0o777 | fs.ModeSticky, ""},
		{dir, 0o755, ""},
	} {
		must(t, os.Chmod(c.path, c.mode))
		if c.reported == "" {
			w.expect(t, true, false)
		} else {
			w.expect(t, false, false, c.reported)
		}
	}
}

// TestBothDirectoriesOfASymbolicLinkCount: who may write either of them can
// have the relay read another file.
func TestBothDirectoriesOfASymbolicLinkCount(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps no such modes")
	}
	w := watch(t)
	target := filepath.Join(privateDir(t), "keys")
	writeFile(t, target, edLine+"\n", 0o600)
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(target, old, old))
	must(t, os.Symlink(target, w.path))
	w.expect(t, true, false)
	for _, dir := range []string{filepath.Dir(target), filepath.Dir(w.path)} {
		must(t, os.Chmod(dir, 0o777))
		w.expect(t, false, false, ": authorizes nobody: its directory may be written by others (mode 0777): chmod go-w that directory")
		must(t, os.Chmod(dir, 0o700))
		w.expect(t, true, false)
	}
}

func TestFileIsBounded(t *testing.T) {
	w := watch(t)
	writeFile(t, w.path, edLine+"\n"+strings.Repeat("#", maxFile), 0o600)
	w.expect(t, false, false, ": authorizes nobody: larger than 16777216 bytes")
	must(t, os.Remove(w.path))
	must(t, os.Mkdir(w.path, 0o700))
	w.expect(t, false, false, ": authorizes nobody: not a regular file")
	must(t, os.Remove(w.path))

	writeFile(t, w.path, strings.Repeat("nonsense\n", maxProblems+7)+edLine, 0o600)
	keys, problems := Check(w.path, "")
	if keys != 1 || len(problems) != maxProblems+1 {
		t.Fatalf("%d keys, %d problems", keys, len(problems))
	}
	if last := problems[maxProblems]; last != (Problem{w.path, 0, "7 more lines are refused"}) {
		t.Errorf("last problem %v", last)
	}
}

// TestFailedReadIsTriedAgain: an open file limit must not lock everyone out
// until somebody touches the file.
func TestFailedReadIsTriedAgain(t *testing.T) {
	w := watch(t)
	writeFile(t, w.path, edLine+"\n", 0o600)
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(w.path, old, old))
	w.expect(t, true, false)
	w.table = &keyTable{unread: true} // as after an open that failed
	w.expect(t, true, false)
}

func TestAuthorizedKeysIsSafeForManyGoroutines(t *testing.T) {
	w := watch(t)
	key := parsed(t, edLine)
	a := NewAuthorizedKeys(w.path, "", func(Problem) {})
	done := make(chan bool)
	for range 4 {
		go func() {
			for range 50 {
				a.Authorize(key, addr)
			}
			done <- true
		}()
	}
	for i := range 20 {
		writeFile(t, w.path, fmt.Sprintf("# %d\n%s\n", i, edLine), 0o600)
	}
	for range 4 {
		<-done
	}
	if _, ok := a.Authorize(key, addr); !ok {
		t.Error("not authorized in the end")
	}
}
