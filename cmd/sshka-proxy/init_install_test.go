package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sshka/sshka-proxy/cmd/internal/console"
	"github.com/sshka/sshka-proxy/proxy"
)

// otherSide is a relay's host without a relay: a fake ssh that runs what it is told here,
// with a home and programs of its own.
type otherSide struct {
	t            *testing.T
	dir          string // of the fakes
	home, there  string // the user's, here and over there
	port         string // where nobody listens
	sshConfig    map[string]string
	options      initOptions
	stdout, errs bytes.Buffer
}

// fakeSSH runs the command, its last argument, as the login shell over there. What it
// is called with is logged; FAKE says what is wrong with it.
const fakeSSH = `#!/bin/sh
printf '%s\n' "$*" >>"$FAKE_DIR/calls"
case " $* " in *" -O exit "*) exit 0 ;; esac
for command; do :; done
case $FAKE in
denied) echo "me@relay.test: Permission denied (publickey)." >&2; exit 255 ;;
noshell) echo "This account is currently not available."; exit 1 ;;
banner) printf 'Welcome!\033[31m\nsshka-BEGIN begin\nhome /evil\n'; echo "last login: never" >&2 ;;
esac
exec env -i HOME="$FAKE_DIR/there" PATH="$FAKE_DIR/bin:/usr/bin:/bin" FAKE="$FAKE" FAKE_DIR="$FAKE_DIR" SSH_CONNECTION="192.0.2.1 5 192.0.2.2 22" /bin/sh -c "$command"
`

// fakeRelay is the program that is sent.
const fakeRelay = `#!/bin/sh
case $1 in
--version) echo "sshka-relay 0.1.0-fake" ;;
status) [ -e "$FAKE_DIR/running" ] ;;
check) [ "$FAKE" != nokeys ] || { echo "sshka-relay: nobody can use this relay: put the line of a user's .pub file into KEYS" >&2; exit 1; } ;;
serve) [ "$FAKE" != dies ] || { echo "no such luck" >&2; exit 1; }; touch "$FAKE_DIR/running" ;;
fingerprint) [ "$FAKE" != nonsense ] || { printf 'SHA\033256\n'; exit; }; echo ` + foreign + ` ;;
esac
`

func newOtherSide(t *testing.T) *otherSide {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the fakes are for a POSIX shell")
	}
	dir := t.TempDir()
	s := &otherSide{t: t, dir: dir, home: filepath.Join(dir, "home"), there: filepath.Join(dir, "there"), sshConfig: map[string]string{"hostname": "127.0.0.1", "port": "22"}}
	for name, text := range map[string]string{
		"path/ssh":   fakeSSH,
		"relay":      fakeRelay,
		"bin/id":     "#!/bin/sh\ncase $1 in -u) echo 1000 ;; -un) echo me ;; esac\n",
		"bin/sudo":   "#!/bin/sh\n[ -e \"$FAKE_DIR/sudoer\" ] && shift && exec \"$@\"\n",
		"bin/sleep":  "#!/bin/sh\nexec /bin/sleep 0.02\n",
		"bin/ufw":    "#!/bin/sh\necho 'Status: active'\n",
		"bin/setsid": "#!/bin/sh\nexec \"$@\"\n",
		"bin/systemctl": "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$FAKE_DIR/systemctl\"\ncase $* in *enable*)\n" +
			"[ \"$FAKE\" != nounit ] || { echo 'Failed to connect to bus' >&2; exit 1; }\ntouch \"$FAKE_DIR/running\" ;; esac\n",
		"bin/loginctl": "#!/bin/sh\n[ \"$*\" = \"$(cat \"$FAKE_DIR/polkit\")\" ]\n", // what it allows
	} {
		s.write(name, text)
	}
	s.write("home/.ssh/none", "")
	s.write("there/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n")
	t.Setenv("PATH", filepath.Join(dir, "path")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("FAKE_DIR", dir)
	t.Setenv("FAKE", "")
	t.Setenv("HOME", s.home)
	t.Setenv("SSH_AUTH_SOCK", "")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(ln.Addr().String())
	ln.Close()
	s.options = initOptions{install: true, port: s.port, binary: filepath.Join(dir, "relay")}
	return s
}

// write makes a program, or a file, of the stage.
func (s *otherSide) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// read returns a file of the stage, "" where there is none.
func (s *otherSide) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(text)
}

// init runs init and returns its error as text, with DIR and PORT for what differs.
func (s *otherSide) init() string {
	s.t.Helper()
	to, err := parseDestination("me@relay.test", s.options.port)
	if err != nil {
		s.t.Fatal(err)
	}
	i := &initialiser{
		flags: &flags{interval: intervalUnset}, options: s.options, to: to, out: &s.stdout, ui: &ui{err: &console.Console{W: &s.errs}}, top: s.dir + "/top",
		env:       func(key string) string { return map[string]string{"HOME": s.home}[key] },
		sshConfig: func(context.Context, string) (map[string]string, error) { return s.sshConfig, nil },
	}
	if err := i.options.check(i.flags); err != nil {
		s.t.Fatal(err)
	}
	return strings.NewReplacer(s.dir, "DIR", ":"+s.port, ":PORT", "TCP "+s.port, "TCP PORT").Replace(fmt.Sprint(i.run(s.t.Context())))
}

const (
	goesOn  = "; init again goes on from there"
	nothing = "; nothing is changed there" + goesOn
)

// TestInitSaysWhatIsInTheWay: one thing is wrong over there, and one line says which,
// what is there already, and that the same command goes on.
func TestInitSaysWhatIsInTheWay(t *testing.T) {
	const copied = "; there already: ~/.local/bin/sshka-relay"
	for _, tt := range []struct {
		name, fake string
		before     func(s *otherSide)
		want       string
	}{
		{name: "ssh does not let in", fake: "denied", want: "init, 1/7, log in by ssh and look: ssh relay.test: me@relay.test: Permission denied (publickey)." + nothing},
		{
			name: "there is no shell", fake: "noshell",
			want: "init, 1/7, log in by ssh and look: relay.test did not run sh, it said: This account is currently not available." + nothing,
		},
		{
			name: "another listens there", before: func(s *otherSide) {
				ln, err := net.Listen("tcp", "127.0.0.1:"+s.port)
				if err != nil {
					s.t.Skip(err)
				}
				s.t.Cleanup(func() { ln.Close() })
			},
			want: "init, 1/7, log in by ssh and look: something listens on TCP PORT there that me may not ask, or that is no sshka-relay: " +
				"if it is another user's relay or a system's, log in as whoever may ask it; else choose another --port" + nothing,
		},
		{
			name: "no sudo", before: func(s *otherSide) { s.options.system = true },
			want: "init, 1/7, log in by ssh and look: --system needs root or sudo without a password for me; leave --system out for a relay of that user's own" + nothing,
		},
		{
			name: "no systemd", before: func(s *otherSide) { s.options.system = true; s.write("sudoer", "") },
			want: "init, 1/7, log in by ssh and look: --system needs systemd there; leave --system out for a relay of the user's own" + nothing,
		},
		{
			name: "it talks nonsense", before: func(s *otherSide) { s.write("bin/id", "#!/bin/sh\nprintf 'me; \033[2J\n'\n") },
			want: `init, 1/7, log in by ssh and look: relay.test says nonsense about itself: its user is "me;  [2J"` + nothing,
		},
		{
			name: "another kind of machine", before: func(s *otherSide) {
				s.options.binary = ""
				s.write("bin/uname", "#!/bin/sh\ncase $1 in -s) echo Linux ;; -m) echo riscv64 ;; esac\n")
			},
			want: "init, 2/7, the relay's program: there is no sshka-relay for linux/riscv64 beside SELF; take that of " +
				"sshka-proxy_" + proxy.Version + "_linux_riscv64.tar.gz, or build one (CGO_ENABLED=0 GOOS=linux GOARCH=riscv64 go build ./cmd/sshka-relay), and name it: --relay-binary FILE" + nothing,
		},
		{
			name: "an unknown machine", before: func(s *otherSide) {
				s.options.binary = ""
				s.write("bin/uname", "#!/bin/sh\necho VAX\n")
			},
			want: "init, 2/7, the relay's program: this kind of system is not known; build sshka-relay for it and name it: --relay-binary FILE" + nothing,
		},
		{
			name: "no file", before: func(s *otherSide) { s.options.binary = filepath.Join(s.dir, "nosuch") },
			want: "init, 2/7, the relay's program: open DIR/nosuch: no such file or directory" + nothing,
		},
		{
			name: "another program", before: func(s *otherSide) { s.write("relay", "#!/bin/sh\necho hello\n") },
			want: "init, 2/7, the relay's program: DIR/relay is not sshka-relay" + nothing,
		},
		{
			name: "a program of another kind", before: func(s *otherSide) { s.write("relay", "\x7fELFnonsense\x00\x01") },
			want: "init, 2/7, the relay's program: the program did not arrive, or does not run there" + nothing,
		},
		{
			name: "nobody is authorized", fake: "nokeys",
			want: "init, 3/7, the relay's configuration: sshka-relay check: nobody can use this relay: put the line of a user's .pub file into KEYS" + copied + goesOn,
		},
		{
			name: "it does not run", fake: "dies",
			want: "init, 4/7, start the relay: the relay does not run: no such luck" + copied + ", ~/.config/sshka/relay.yaml" + goesOn,
		},
		{
			name: "its fingerprint is none", fake: "nonsense",
			want: `init, 5/7, the relay's fingerprint: sshka-relay fingerprint printed "SHA 256": "SHA\x1b256" is not a fingerprint (SHA256: and 43 characters, as sshka-relay fingerprint prints it)` +
				copied + ", ~/.config/sshka/relay.yaml, the relay, which runs" + goesOn,
		},
		{
			name: "another key is recorded", before: func(s *otherSide) {
				s.write("home/.config/sshka/known_relays", "# mine\n127.0.0.1:"+s.port+" "+theKey().Fingerprint+"\n")
			},
			want: "init, 5/7, the relay's fingerprint: the relay's key is " + foreign + ", DIR/home/.config/sshka/known_relays:2 has KEY for 127.0.0.1:PORT: " +
				"if the relay was set up anew, remove that line" + copied + ", ~/.config/sshka/relay.yaml, the relay, which runs" + goesOn,
		},
		{
			name: "the configuration has another relay", before: func(s *otherSide) { s.write("home/.config/sshka/config.yaml", "proxy:\n  relay: other.test\n") },
			want: `init: DIR/home/.config/sshka/config.yaml:2 is there, is not overwritten, and its relay is other.test:7422: change the line to relay: "127.0.0.1:PORT"`,
		},
		{
			name: "nobody listens", before: func(s *otherSide) {
				s.write("home/.ssh/id_ed25519", newKeyFile(s.t))
			},
			want: "init, 6/7, check the way there: TCP PORT is closed (connection refused), and no relay listens on it at relay.test: does relay.listen in its " +
				"configuration say another port? Then give --port" + copied + ", ~/.config/sshka/relay.yaml, the relay, which runs" + goesOn,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newOtherSide(t)
			t.Setenv("FAKE", tt.fake)
			if tt.before != nil {
				tt.before(s)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.NewReplacer(self, "SELF", theKey().Fingerprint, "KEY").Replace(s.init())
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s\n%s", got, tt.want, &s.errs)
			}
			if strings.Contains(s.errs.String(), "\x1b") || strings.Contains(s.stdout.String(), "Host ") {
				t.Errorf("stderr %q, stdout %q", &s.errs, &s.stdout)
			}
			if files, _ := filepath.Glob(s.there + "/.local/bin/.*"); len(files) > 0 {
				t.Errorf("left behind: %q", files)
			}
			if strings.HasPrefix(got, "init: ") && s.read("calls") != "" {
				t.Errorf("ssh was called: %s", s.read("calls"))
			}
		})
	}
}

// TestInitFindsTheRelaysProgram: beside its own, or where make dist and its archives
// put one for another machine.
func TestInitFindsTheRelaysProgram(t *testing.T) {
	other := "arm"
	if runtime.GOARCH == other {
		other = "arm64"
	}
	for _, tt := range []struct{ system, machine, self, there string }{
		{runtime.GOOS, runtime.GOARCH, "bin/sshka-proxy", "bin/sshka-relay"},
		{"plan9", other, "bin/sshka-proxy", "dist/build/plan9_" + other + "/sshka-relay"},
		{"plan9", other, "sshka-proxy_x/sshka-proxy", archiveName("plan9", other) + "/sshka-relay"},
	} {
		dir := t.TempDir()
		want := filepath.Join(dir, filepath.FromSlash(tt.there))
		if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
			t.Fatal(err)
		}
		self := filepath.Join(dir, filepath.FromSlash(tt.self))
		if got, err := relayBinary("", tt.system, tt.machine, self); err == nil {
			t.Errorf("found %s where there is none", got)
		}
		if err := os.WriteFile(want, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := relayBinary("", tt.system, tt.machine, self); got != want {
			t.Errorf("%s/%s from %s: %q, %v, want %s", tt.system, tt.machine, tt.self, got, err, tt.there)
		}
	}
	if got := archiveName("linux", "arm"); got != "sshka-proxy_"+proxy.Version+"_linux_armv7" { // as deploy/packages/build calls it
		t.Error(got)
	}
}

// TestALoginShellMayTalk: a banner is no answer, even one that looks like ours.
func TestALoginShellMayTalk(t *testing.T) {
	s := newOtherSide(t)
	t.Setenv("FAKE", "banner")
	if got := s.init(); !strings.HasPrefix(got, "init, 6/7, ") {
		t.Error(got)
	}
	if s.read("there/.local/bin/sshka-relay") != fakeRelay {
		t.Error("the program did not arrive")
	}
}

// TestInitGoesOnAndOverwritesNothing: what stands over there stays as it is, whoever
// wrote it.
func TestInitGoesOnAndOverwritesNothing(t *testing.T) {
	s := newOtherSide(t)
	s.write("there/.config/sshka/relay.yaml", "relay: {} # mine\n")
	for range 2 {
		s.errs.Reset()
		if got := s.init(); !strings.HasPrefix(got, "init, 6/7, ") {
			t.Error(got)
		}
	}
	if got := s.read("there/.config/sshka/relay.yaml"); got != "relay: {} # mine\n" {
		t.Errorf("overwritten: %s", got)
	}
	if got := s.read("home/.config/sshka/known_relays"); got != "127.0.0.1:"+s.port+" "+foreign+"\n" {
		t.Errorf("known_relays: %q", got)
	}
	if want := "sshka-relay 0.1.0-fake runs there and is not touched (this program is " + proxy.Version + ")"; !strings.Contains(s.errs.String(), want) {
		t.Errorf("%q is missing in %s", want, &s.errs)
	}
	for _, name := range []string{"home/.config/sshka/config.yaml", "home/.config/sshka/known_relays", "there/.local/state/sshka/relay.log"} {
		if info, err := os.Stat(filepath.Join(s.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for call := range strings.Lines(s.read("calls")) {
		if !strings.Contains(call, "BatchMode=yes") || !strings.Contains(call, "ControlMaster=auto") || !strings.Contains(call, " -- me@relay.test") || strings.Contains(call, "StrictHostKeyChecking") {
			t.Errorf("ssh %s", call)
		}
	}
}

// TestInitMakesAUnit: of the user's, or of the system's.
func TestInitMakesAUnit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		system bool
		before func(s *otherSide)
		files  map[string]string // what they contain
		calls  string
		says   string
	}{
		{
			name: "a user's where logins end all they started", calls: "--user show-environment\n--user daemon-reload\n--user enable --now sshka-relay.service\n",
			files: map[string]string{"there/.config/systemd/user/sshka-relay.service": relayUnit(modeUser), "there/.config/sshka/relay.yaml": "authorized_keys: ~/.ssh/authorized_keys\n"},
			says:  "4/7 the relay runs as a unit of systemd; it ends when me logs out; to keep it, run there: sudo loginctl enable-linger me && systemctl --user enable sshka-relay\n",
		},
		{
			name: "a user's that may not linger", calls: "--user show-environment\n",
			before: func(s *otherSide) { s.write("bin/busctl", "#!/bin/sh\necho b false\n") },
			files:  map[string]string{"there/.config/systemd/user/sshka-relay.service": relayUnit(modeUser), "running": ""},
			says: "4/7 the relay runs, without a service manager: it does not come back after a reboot; if it is to, run there: " +
				"sudo loginctl enable-linger me && systemctl --user enable sshka-relay\n",
		},
		{
			name: "a user's that lingers", calls: "--user show-environment\n--user daemon-reload\n--user enable --now sshka-relay.service\n",
			before: func(s *otherSide) { s.write("top/var/lib/systemd/linger/me", "") },
			says:   "4/7 the relay runs as a unit of systemd\n",
		},
		{
			name: "a user's that may linger", calls: "--user show-environment\n--user daemon-reload\n--user enable --now sshka-relay.service\n",
			before: func(s *otherSide) { s.write("polkit", "enable-linger") },
			says:   "4/7 the relay runs as a unit of systemd\n",
		},
		{
			name: "a user's that lingers by sudo", calls: "--user show-environment\n--user daemon-reload\n--user enable --now sshka-relay.service\n",
			before: func(s *otherSide) { s.write("sudoer", ""); s.write("polkit", "enable-linger me") },
			says:   "4/7 the relay runs as a unit of systemd; sudo has switched on lingering for me, so that it does without a login\n",
		},
		{
			name: "a system's", system: true, calls: "--user show-environment\ndaemon-reload\nenable --now sshka-relay.service\n",
			files: map[string]string{
				"top/etc/systemd/system/sshka-relay.service": relayUnit(modeSystem), "top/etc/sshka/relay.yaml": "state: /var/lib/sshka\n",
				"top/etc/sshka/authorized_keys": "ssh-ed25519 AAAA me\n", "top/usr/local/bin/sshka-relay": fakeRelay,
			},
			says: "4/7 the relay runs as a unit of systemd\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newOtherSide(t)
			s.options.system = tt.system
			s.write("top/run/systemd/system/x", "")
			if tt.system {
				s.write("sudoer", "")
			}
			if tt.before != nil {
				tt.before(s)
			}
			if got := s.init(); !strings.HasPrefix(got, "init, 6/7, ") {
				t.Fatal(got)
			}
			for file, text := range tt.files {
				if got := s.read(file); !strings.Contains(got, text) {
					t.Errorf("%s: %q", file, got)
				}
			}
			if got := s.read("systemctl"); got != tt.calls {
				t.Errorf("systemctl was called with\n%s", got)
			}
			if !strings.Contains(s.errs.String(), tt.says) {
				t.Errorf("%q is missing in\n%s", tt.says, &s.errs)
			}
			if tt.system { // nothing of the user's
				if _, err := os.Stat(s.there + "/.config"); err == nil {
					t.Error("there is a configuration of the user's, too")
				}
			}
		})
	}
}

// TestAProgramArrivesWholeOrNotAtAll: a connection that breaks leaves no half of one.
func TestAProgramArrivesWholeOrNotAtAll(t *testing.T) {
	s := newOtherSide(t)
	to, err := parseDestination("relay.test", "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRemote(to, nil, false, &s.errs)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	_, err = r.ask(t.Context(), r.receiver(modeUser, int64(len(fakeRelay)+1)), strings.NewReader(fakeRelay))
	if fmt.Sprint(err) != "the program did not arrive, or does not run there" {
		t.Error(err)
	}
	if files, _ := filepath.Glob(s.there + "/.local/bin/*"); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
	if strings.ContainsAny(strings.TrimSuffix(strings.TrimPrefix(r.receiver(modeUser, 1), "sh -c '"), "'"), "'!\\\n") {
		t.Error("some login shell reads these characters in single quotes in its own way")
	}
}

// newKeyFile is the file of a new key.
func newKeyFile(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}
