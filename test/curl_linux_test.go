package test

import (
	"fmt"
	"strings"
	"testing"
)

// curl is another ssh, libssh2, and asks the proxy to resolve the name (socks5h).
func TestCurlCopiesBySFTPThroughTheProxy(t *testing.T) {
	t.Parallel()
	needTools(t, "curl")
	l := newSOCKSLab(t, nil)
	version := l.start(t, client, "curl", "-V")
	version.wait(0)
	if !strings.Contains(version.stdout.String(), " sftp ") {
		t.Skip("this curl has no sftp")
	}
	want := l.randomFile(t, "sent", socksSize)
	for _, scheme := range []string{"socks5h", "socks4a", "http"} {
		t.Run(scheme, func(t *testing.T) {
			up, down := l.path("up."+scheme), l.path("down."+scheme)
			for _, way := range [][]string{{"-T", l.path("sent")}, {"-o", down}} {
				p := l.start(t, client, "curl", append([]string{
					"-q", "-sS", "--proxytunnel", "--proxy", fmt.Sprintf("%s://%s:%d", scheme, loopbackIP, socksPort),
					"--user", "root:", "--key", l.path("user"), "--pubkey", l.path("user.pub"),
					"--hostpubsha256", strings.TrimPrefix(l.hostPrint(t), "SHA256:"),
					"sftp://" + targetName + up,
				}, way...)...)
				p.waitWithin(bulkPatience, 0)
			}
			for _, name := range []string{"up.", "down."} {
				if got := sum(t, l.path(name+scheme)); got != want {
					t.Errorf("%s%s: the file that arrived differs", name, scheme)
				}
			}
		})
	}
}
