package test

import (
	"slices"
	"strings"
	"testing"
)

const installRelay = "dpkg --force-depends -i /packages/sshka-relay_*.deb"

// A package's life: installed, used, upgraded, removed, purged.
func TestADebianPackageInstallsRunsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.expect(installRelay, "put the keys of its users into /etc/sshka/authorized_keys")
	m.expect("stat -c '%a %U:%G %n' /etc/sshka /etc/sshka/* /var/lib/sshka /usr/bin/sshka-relay",
		"755 root:root /etc/sshka\n", "644 root:root /etc/sshka/authorized_keys\n", "644 root:root /etc/sshka/relay.yaml\n",
		"700 sshka:sshka /var/lib/sshka\n", "755 root:root /usr/bin/sshka-relay\n")
	m.expect("getent passwd sshka", "/nologin")
	m.expect("ls -l /etc/systemd/system/multi-user.target.wants/", "sshka-relay.service")

	// As the unit runs it, but by hand: there is no systemd here.
	check := "setpriv --reuid=sshka --regid=sshka --init-groups sshka-relay check --config /etc/sshka/relay.yaml 2>&1"
	out, err := m.try(check)
	if err == nil || !strings.Contains(out, "nobody can use this relay: put the line of a user's .pub file into /etc/sshka/authorized_keys") {
		t.Errorf("a new relay's check: %v\n%s", err, out)
	}
	m.run("ssh-keygen -q -t ed25519 -N '' -f /root/user_key && cat /root/user_key.pub >>/etc/sshka/authorized_keys")
	m.expect(check, "(1 accepted)", "allow            localhost:22\n")
	as := "setpriv --reuid=sshka --regid=sshka --init-groups "
	serves := as + "sshka-relay serve --config /etc/sshka/relay.yaml 2>/tmp/log & relay=$!\n" +
		"for i in $(seq 100); do grep -q '\"socket\"' /tmp/log && break; sleep 0.1; done\n"
	m.expect("ip link set lo up\n"+serves+"sshka-relay status --config /etc/sshka/relay.yaml; kill $relay; wait $relay; cat /tmp/log",
		"sshka-relay "+packageVersion, `"msg":"stopped"`)
	// Its socket is gone: a pod's sshd waits for that.
	m.expect("stat -c '%a %U' /var/lib/sshka/relay_key; echo $(ls -A /var/lib/sshka).", "600 sshka\n", "\nrelay_key.\n")

	// What an administrator has changed stays in an upgrade, and so does a relay that runs.
	m.run("echo '# mine' >>/etc/sshka/relay.yaml; systemctl --root=/ disable sshka-relay.service")
	m.expect("ip link set lo up\n"+serves+installRelay+" </dev/null; kill -0 $relay && echo it lives; tail -1 /etc/sshka/relay.yaml; wc -l </etc/sshka/authorized_keys",
		"it lives", "# mine\n", "\n1\n")
	if out := m.run("ls /etc/systemd/system/multi-user.target.wants/"); strings.Contains(out, "sshka") {
		t.Errorf("an upgrade enables what was disabled:\n%s", out)
	}

	m.run("dpkg -r sshka-relay")
	m.expect("ls /etc/sshka /var/lib/sshka", "authorized_keys", "relay.yaml", "relay_key")
	m.run("dpkg --purge sshka-relay")
	if out, err := m.try("ls -d /etc/sshka /var/lib/sshka /usr/share/doc/sshka-relay 2>&1 || true; getent passwd sshka; getent group sshka"); err == nil || strings.Contains(out, "sshka:") {
		t.Errorf("after the purge there is a user: %v\n%s", err, out)
	}
	left := slices.DeleteFunc(m.left(), func(name string) bool {
		// Those that useradd and userdel rewrite, with what they had, and ours above.
		return slices.Contains([]string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock", "/etc/subuid", "/etc/subgid"}, strings.TrimSuffix(name, "-"))
	})
	if len(left) > 0 {
		t.Errorf("after the purge there are %v", left)
	}
}

func TestTheProxysDebianPackageInstallsBesideTheRelays(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run(installRelay + " && dpkg --force-depends -i /packages/sshka-proxy_*.deb")
	m.expect("sshka-proxy --version", "sshka-proxy "+packageVersion)
	m.expect("bash -c 'source /usr/share/bash-completion/completions/sshka-proxy && complete -p sshka-proxy'", "__start_sshka-proxy")
	m.run("dpkg --purge sshka-relay sshka-proxy")
}
