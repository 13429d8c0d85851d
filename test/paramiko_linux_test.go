package test

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// paramikoScript logs in to a host by a ProxyCommand or by SOCKS5, says how sshd
// sees that, echoes a line, then copies a file there and back.
const paramikoScript = `
import socket, struct, sys
import paramiko

way, host, proxy, key, known, sent, up, down = sys.argv[1:]

def exactly(sock, n):
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise EOFError("the proxy has closed the connection")
        data += more
    return data

def socks5(port, host):
    sock = socket.create_connection(("127.0.0.1", port), 15)
    sock.sendall(b"\x05\x01\x00")
    if exactly(sock, 2) != b"\x05\x00":
        raise OSError("the proxy wants a password")
    name = host.encode()
    sock.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", 22))
    _, reply, _, kind = exactly(sock, 4)
    exactly(sock, {1: 4, 4: 16}.get(kind) or exactly(sock, 1)[0])
    exactly(sock, 2)
    if reply != 0:
        raise OSError("SOCKS5 reply %d" % reply)
    sock.settimeout(None)
    return sock

connection = paramiko.ProxyCommand(proxy) if way == "command" else socks5(int(proxy), host)
client = paramiko.SSHClient()
client.load_host_keys(known)
client.connect(host, username="root", key_filename=key, look_for_keys=False, allow_agent=False, sock=connection)
stdin, stdout, _ = client.exec_command("echo $SSH_CONNECTION; cat")
print(stdout.readline(), end="", flush=True)
stdin.write(sys.stdin.readline())
stdin.flush()
print(stdout.readline(), end="", flush=True)
stdin.channel.shutdown_write()
files = client.open_sftp()
files.put(sent, up)
files.get(up, down)
client.close()
`

// python returns a Python that has a module: the first in the path, or the system's,
// for which packages are. It skips the test, or fails it where the tests are
// required, if none has.
func python(t *testing.T, module string) string {
	t.Helper()
	needTools(t, "python3")
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import "+module).Run() == nil {
			return name
		}
	}
	if os.Getenv("SSHKA_E2E") == "require" {
		t.Fatalf("no python3 has %s", module)
	}
	t.Skipf("no python3 has %s", module)
	return ""
}

func TestParamikoThroughTheProxySurvivesIdling(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "paramiko")
	l := newSOCKSLab(t, nil)
	const size = 1_000_003
	want := l.randomFile(t, "sent", size)
	script := l.write("login.py", paramikoScript)
	for way, proxy := range map[string]string{
		"command": program(t, "sshka-proxy") + " --config " + l.proxyConfig(nil) + " " + targetName + " 22",
		"socks5":  strconv.Itoa(socksPort),
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			down := l.path("down." + way)
			p := l.start(t, client, interpreter, "-B", script, way, targetName, proxy, l.path("user"), l.path("known_hosts"),
				l.path("sent"), l.path("up."+way), down)
			p.expect(" " + targetIP + " 22\n")
			idle(daemonIdle)
			p.send("after\n")
			p.expect("after\n")
			p.stdin.Close()
			p.waitWithin(bulkPatience, 0)
			if got := sum(t, down); got != want {
				t.Error("the file that came back differs")
			}
		})
	}
}
