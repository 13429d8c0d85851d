package test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// inEvery are the files of each package, whatever its form.
var inEvery = map[string][]string{
	"sshka-proxy": {
		"/usr/bin/sshka-proxy", "/usr/lib/systemd/user/sshka-proxy.service", "/usr/share/man/man1/sshka-proxy.1.gz",
		"/usr/share/bash-completion/completions/sshka-proxy", "/usr/share/fish/vendor_completions.d/sshka-proxy.fish",
		"/usr/share/doc/sshka-proxy/copyright", "/usr/share/doc/sshka-proxy/config.example.yaml",
	},
	"sshka-relay": {
		"/usr/bin/sshka-relay", "/etc/sshka/relay.yaml", "/usr/lib/systemd/system/sshka-relay.service", "/usr/lib/systemd/system/sshka-relay.socket",
		"/usr/lib/systemd/user/sshka-relay.service", "/usr/lib/sysusers.d/sshka-relay.conf", "/usr/share/man/man8/sshka-relay.8.gz",
		"/usr/share/bash-completion/completions/sshka-relay", "/usr/share/fish/vendor_completions.d/sshka-relay.fish",
		"/usr/share/doc/sshka-relay/copyright", "/usr/share/doc/sshka-relay/docs/operations.md",
	},
}

// apkVersion is what apk takes for a version (apk-package(5)).
var apkVersion = regexp.MustCompile(`(?m)^pkgver = [0-9]+(\.[0-9]+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*(-r[0-9]+)?$`)

func TestAlpineTakesTheVersion(t *testing.T) {
	t.Parallel()
	needTools(t, "tar", "make")
	for name := range inEvery {
		out, err := exec.Command("tar", "-xOzi", "--warning=no-unknown-keyword", "-f", packaged(t, name+"_*.apk"), ".PKGINFO").CombinedOutput()
		if err != nil || !apkVersion.Match(out) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestEveryPackageHasItsFiles(t *testing.T) {
	t.Parallel()
	needTools(t, "dpkg-deb", "rpm2cpio", "cpio", "tar", "make")
	for name, want := range inEvery {
		for _, form := range []struct {
			pattern, list string
			more          []string
		}{
			{"_*.deb", `dpkg-deb --fsys-tarfile "$1" | tar -t`, []string{"/usr/share/zsh/vendor-completions/_" + name}},
			{"-*.rpm", `rpm2cpio "$1" | cpio -t --quiet`, []string{"/usr/share/zsh/site-functions/_" + name}},
			// An apk is several archives, one after the other.
			{"_*.apk", `tar -tzi --warning=no-unknown-keyword -f "$1"`, []string{"/usr/share/zsh/site-functions/_" + name}},
		} {
			if name == "sshka-relay" && form.pattern == "_*.apk" {
				form.more = append(form.more, "/etc/init.d/sshka-relay", "/.post-install", "/.post-upgrade", "/.pre-deinstall", "/.post-deinstall")
			}
			file := packaged(t, name+form.pattern)
			out, err := exec.Command("/bin/sh", "-ec", form.list, "sh", file).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", file, err, out)
				continue
			}
			files := strings.Fields(string(out))
			for i, f := range files {
				files[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(f, "."), "/")
				if strings.HasPrefix(f, ".p") { // a script of an apk
					files[i] = "/" + f
				}
			}
			for _, f := range append(slices.Clone(want), form.more...) {
				if !slices.Contains(files, f) {
					t.Errorf("%s lacks %s", file, f)
				}
			}
		}
	}
}
