package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const sshdPath = "/usr/sbin/sshd"

// makeKeys makes the key of both sshd, a user's key and the ssh configuration.
// Nothing in it keeps a connection alive.
func (l *lab) makeKeys() {
	l.t.Helper()
	for _, name := range []string{"host", "user"} {
		l.check(runTool("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", l.path(name)))
	}
	host, err := os.ReadFile(l.path("host.pub"))
	l.check(err)
	var known strings.Builder
	names := append([]string{relayIP, relayIP6, targetIP, targetIP6, targetName, inetIP, loopbackIP, "localhost"}, commandNames...)
	for _, name := range names {
		fmt.Fprintf(&known, "%s %s", name, host)
	}
	l.write("known_hosts", known.String())
	l.write("ssh_config", fmt.Sprintf(`
Host *
	User root
	IdentityFile %s
	IdentitiesOnly yes
	IdentityAgent none
	UserKnownHostsFile %s
	GlobalKnownHostsFile /dev/null
	StrictHostKeyChecking yes
	UpdateHostKeys no
	BatchMode yes
	ServerAliveInterval 0
	TCPKeepAlive no
	ControlMaster no
	ControlPath none
`, l.path("user"), l.path("known_hosts")))
}

// hostPrint returns the fingerprint of the sshds' key, SHA256:….
func (l *lab) hostPrint(t *testing.T) string {
	t.Helper()
	return l.printOf(t, "host.pub")
}

// printOf returns the fingerprint of a public key.
func (l *lab) printOf(t *testing.T, file string) string {
	t.Helper()
	line, err := os.ReadFile(l.path(file))
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}

// startSSHD runs an sshd on port 22 of addresses that lets the lab's user in as
// root and keeps nothing alive. Several may run in one place.
func (l *lab) startSSHD(r role, addresses ...string) *process {
	l.t.Helper()
	l.check(os.MkdirAll("/run/sshd", 0o755)) // sshd refuses to start without its empty directory
	config := fmt.Sprintf(`
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserRC no
PrintMotd no
PrintLastLog no
UseDNS no
TCPKeepAlive no
ClientAliveInterval 0
MaxStartups 200
Subsystem sftp internal-sftp
`, l.path("host"), l.path("user.pub"))
	var listen strings.Builder
	for _, address := range addresses {
		listen.WriteString("ListenAddress " + net.JoinHostPort(address, "22") + "\n")
	}
	config += listen.String()
	p := l.start(l.t, r, sshdPath, "-D", "-e", "-f", l.write("sshd_config_"+string(r), config))
	for _, address := range addresses {
		p.expectLog("Server listening on " + address + " port 22.")
	}
	return p
}

// ssh starts OpenSSH in the client's namespace with the lab's configuration.
func (l *lab) ssh(t *testing.T, args ...string) *process {
	t.Helper()
	return l.start(t, client, "ssh", append([]string{"-F", l.path("ssh_config")}, args...)...)
}
