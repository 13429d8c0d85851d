package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wineBoot bounds the making of a Windows, which takes some seconds.
const wineBoot = 3 * time.Minute

// wineLab is a lab whose client has Wine's Windows, and our program for it.
type wineLab struct {
	*lab
	exe string
	env []string
}

// newWineLab skips the test where there is no Wine, which is large and not needed for
// anything else, and where Wine cannot make a Windows: it does not say why, and nothing
// of ours has run by then. Under Wine there are no unix sockets, so that the daemon's
// local channel is a port on loopback.
func newWineLab(t *testing.T) *wineLab {
	t.Helper()
	needLab(t)
	if _, err := exec.LookPath("wine"); err != nil {
		t.Skip("wine is not installed: the programs for Windows are built and not run (apt-get install wine64 wine)")
	}
	w := &wineLab{lab: newLab(t)}
	w.exe = w.path("sshka-proxy.exe")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", w.exe, "./cmd/sshka-proxy")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for Windows: %v\n%s", err, out)
	}
	prefix := w.path("wine")
	w.env = []string{"WINEPREFIX=" + prefix, "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml="}
	t.Cleanup(func() { // its services outlive the programs
		stop := exec.Command("wineserver", "-k", "-w")
		if _, err := exec.LookPath("wineserver"); err != nil {
			stop = exec.Command("/usr/lib/wine/wineserver", "-k", "-w")
		}
		stop.Env = append(os.Environ(), w.env...)
		_ = stop.Run()
	})
	boot := w.wine(t, "wineboot", "-i")
	if !boot.endsWithin(wineBoot) || boot.status != 0 {
		t.Skipf("wine cannot make a Windows here (wineboot: %s): the program for Windows is built and not run\n%s", boot.state(), boot.stderr)
	}
	library := filepath.Join(prefix, "drive_c/windows/system32/bcryptprimitives.dll")
	if _, err := os.Stat(library); err != nil {
		w.check(os.WriteFile(library, forwardingDLL("bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036"), 0o600))
	}
	return w
}

// wine runs a program of Windows beside the client.
func (w *wineLab) wine(t *testing.T, args ...string) *process {
	t.Helper()
	return w.startWith(t, client, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, w.env...) }, "wine", args...)
}

// windowsConfig is a proxyConfig with the paths that Wine gives to the lab's files.
func (w *wineLab) windowsConfig(s settings) string {
	w.t.Helper()
	return w.windowsPath(w.proxyConfig(settings{
		"known_relays": `'` + w.windowsPath(w.path("known_relays")) + `'`,
		"identity":     `['` + w.windowsPath(w.path("user")) + `']`,
		"socket":       `'` + w.windowsPath(w.path("proxy.sock")) + `'`,
	}.with(s)))
}

func (*wineLab) windowsPath(path string) string { return `Z:` + strings.ReplaceAll(path, "/", `\`) }

// A smoke test: it is Wine, no Windows. It runs alone, for Wine waits no longer for its
// own parts where a build and a browser want the processors.
func TestTheProgramForWindows(t *testing.T) {
	w := newWineLab(t)
	w.startRelay(t, relayPort, nil)
	want := w.randomFile(t, "sent", socksSize)

	t.Run("a ProxyCommand", func(t *testing.T) {
		script := w.write("proxycommand", fmt.Sprintf("#!/bin/sh\nexec env %s wine '%s' --config '%s' \"$@\"\n",
			strings.Join(w.env, " "), w.exe, w.windowsConfig(settings{"socket": `""`})))
		w.check(os.Chmod(script, 0o700))
		w.carries(t, want, "alone", "-oProxyCommand="+script+" %h %p")
	})

	daemon := w.wine(t, w.exe, "serve", "--config", w.windowsConfig(nil))
	daemon.expectLog(`"msg":"link up"`)
	daemon.expectLog(`"for":"metrics and health"`)
	t.Run("a ProxyCommand over the daemon's link", func(t *testing.T) {
		token, err := os.ReadFile(w.path("proxy.sock"))
		if err != nil || !strings.HasPrefix(string(token), "127.0.0.1:") {
			t.Errorf("the file of the local channel: %.20q, %v", token, err)
		}
		// Without a key it can have no link of its own.
		guest := w.windowsConfig(settings{"identity": `['Z:\none']`})
		script := w.write("guest", fmt.Sprintf("#!/bin/sh\nexec env %s wine '%s' --config '%s' \"$@\"\n",
			strings.Join(w.env, " "), w.exe, guest))
		w.check(os.Chmod(script, 0o700))
		w.carries(t, want, "guest", "-oProxyCommand="+script+" %h %p")
		p := w.wine(t, w.exe, "status", "--config", guest)
		p.wait(0)
		if said := p.stdout.String(); !strings.Contains(said, relayIP) {
			t.Errorf("status says %q", said)
		}
	})
	t.Run("SOCKS", func(t *testing.T) {
		needTools(t, "nc")
		w.carries(t, want, "socks", netcat("5"))
	})
	t.Run("metrics", func(t *testing.T) {
		if up := w.numbers(t, client, proxyAdmin).sum("sshka_link_up"); up != 1 {
			t.Errorf("sshka_link_up is %v", up)
		}
	})
}

// carries copies a file to the target and back.
func (w *wineLab) carries(t *testing.T, want, name, way string) {
	t.Helper()
	for _, direction := range []struct{ in, command, out string }{
		{w.path("sent"), "cat > " + w.path(name+".up"), ""},
		{os.DevNull, "cat " + w.path(name+".up"), w.path(name + ".down")},
	} {
		in, err := os.Open(direction.in)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		p := w.ssh(t, way, targetName, direction.command)
		go func() {
			in.WriteTo(p.stdin)
			p.stdin.Close()
		}()
		p.waitWithin(bulkPatience, 0)
		if direction.out != "" {
			w.check(os.WriteFile(direction.out, []byte(p.stdout.String()), 0o600))
		}
	}
	for _, file := range []string{name + ".up", name + ".down"} {
		if got := sum(t, w.path(file)); got != want {
			t.Errorf("%s: the file that arrived differs", file)
		}
	}
}
