package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newKey makes a key and returns the line of its public half.
func (l *lab) newKey(t *testing.T, name string) string {
	t.Helper()
	l.check(runTool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", l.path(name)))
	return strings.TrimSpace(l.read(t, name+".pub"))
}

// replace writes a file anew in one step, as an administrator does.
func (l *lab) replace(name string, lines ...string) string {
	l.t.Helper()
	fresh := l.write(name+".new", strings.Join(lines, "\n")+"\n")
	l.check(os.Rename(fresh, l.path(name)))
	return l.path(name)
}

// Keys as ssh-keygen makes them and lines as sshd(8) describes them: who gets to
// the target, and what the others read.
func TestAnAuthorizedKeysLineMeansWhatItSays(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const denied = "key not authorized"
	cases := []struct {
		name    string
		options string   // of the line; "-": there is none
		cert    []string // of ssh-keygen, for a certificate by the authority whose line has the options
		foreign bool     // by another authority
		says    string   // what a person reads instead; empty: lets in
	}{
		{name: "plain"},
		{name: "absent", options: "-", says: denied},
		{name: "from here", options: `from="203.0.113.0/24"`},
		{name: "from elsewhere", options: `from="192.0.2.0/24"`, says: denied},
		{name: "from here but", options: `from="!203.0.113.2,203.0.113.0/24"`, says: denied},
		{name: "until 2099", options: `expiry-time="20990101Z"`},
		{name: "expired", options: `expiry-time="20200101Z"`, says: denied},
		{name: "to the target", options: `permitopen="` + targetIP + `:22"`},
		{name: "to elsewhere", options: `permitopen="` + targetIP + `:23"`, says: targetIP + ":22 is not allowed by relay "},
		{name: "restricted", options: "restrict", says: denied},
		{name: "restricted but", options: "restrict,port-forwarding"},
		{name: "for a command", options: `command="date"`, says: denied},
		{name: "misspelled", options: `permitopne="x:1"`, says: denied},

		{name: "certified", options: `cert-authority,principals="ops"`, cert: []string{"-n", "me,ops"}},
		{name: "of another name", options: `cert-authority,principals="ops"`, cert: []string{"-n", "me"}, says: denied},
		{name: "of no name", options: `cert-authority,principals="ops"`, cert: nil, says: denied},
		{name: "out of time", options: `cert-authority,principals="ops"`, cert: []string{"-n", "ops", "-V", "20200101:20200102"}, says: denied},
		{name: "from there", options: `cert-authority,principals="ops"`, cert: []string{"-n", "ops", "-O", "source-address=192.0.2.0/24"}, says: denied},
		{name: "certified from here", options: `cert-authority,principals="ops"`, cert: []string{"-n", "ops", "-O", "source-address=203.0.113.0/24"}},
		{name: "certified for a command", options: `cert-authority,principals="ops"`, cert: []string{"-n", "ops", "-O", "force-command=date"}, says: denied},
		{name: "of a host", options: `cert-authority,principals="ops"`, cert: []string{"-h", "-n", "ops"}, says: denied},
		{name: "of a stranger", options: `cert-authority,principals="ops"`, cert: []string{"-n", "ops"}, foreign: true, says: denied},
	}
	var lines []string
	l.newKey(t, "foreign_ca")
	for i, tt := range cases {
		name := fmt.Sprintf("key%d", i)
		line := l.newKey(t, name)
		if strings.HasPrefix(tt.options, "cert-authority") {
			authority := fmt.Sprintf("ca%d", i)
			line = l.newKey(t, authority)
			if tt.foreign {
				authority = "foreign_ca"
			}
			l.check(runTool("", "ssh-keygen", slices.Concat([]string{"-q", "-s", l.path(authority), "-I", name}, tt.cert, []string{l.path(name + ".pub")})...))
		}
		if tt.options != "-" {
			lines = append(lines, strings.TrimSpace(tt.options+" "+line))
		}
	}
	// Everything stands in one file: no line may count for another's key.
	r := l.startRelay(t, relayPort, settings{"authorized_keys": l.replace("authorized_keys", lines...)})
	for _, words := range []string{`unknown option \"permitopne\"`, `option \"command\": refused`} {
		r.expectLog(words)
	}
	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := l.ssh(t, l.through(t, settings{"identity": "[" + l.path(fmt.Sprintf("key%d", i)) + "]"}), targetIP, "echo in")
			if tt.says == "" {
				p.wait(0)
				l.quiet(t, p)
				return
			}
			p.wait(255)
			if line := oneLine(t, p); !strings.Contains(line, tt.says) {
				t.Errorf("%q does not say %q", line, tt.says)
			}
		})
	}
}

// Whoever is struck off the list is out within seconds, others stay.
func TestARemovedLineEndsItsSessions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	mine, other := l.newKey(t, "mine"), l.newKey(t, "other")
	list := l.replace("authorized_keys", mine, other)
	l.startRelay(t, relayPort, settings{"authorized_keys": list})
	sessions := map[string]*process{}
	for _, name := range []string{"mine", "other"} {
		p := l.ssh(t, l.through(t, settings{"identity": "[" + l.path(name) + "]"}), targetIP, "echo in; cat")
		p.expect("in\n")
		sessions[name] = p
	}
	l.replace(filepath.Base(list), "# "+mine, other)
	begin := time.Now()
	sessions["mine"].wait(255)
	if line := oneLine(t, sessions["mine"]); !strings.Contains(line, "the key is no longer authorized") {
		t.Errorf("%q does not tell why", line)
	}
	t.Logf("out after %v", time.Since(begin).Round(10*time.Millisecond))
	sessions["other"].send("still here\n")
	sessions["other"].expect("still here\n")
}
