package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The lines of docs/security.md are run as they stand there, but for the names of
// this lab's programs and files.
func TestAProofCanBeAuditedAsTheDocsSay(t *testing.T) {
	t.Parallel()
	needTools(t, "ssh-keygen", "base64", "sed")
	l := newLab(t)
	l.startRelay(t, relayPort, nil)
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Auditing a proof")
	_, block, _ := strings.Cut(section, "```sh\n")
	script, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("docs/security.md shows no commands")
	}
	for from, to := range map[string]string{
		"sshka-proxy -v HOST 22": program(t, "sshka-proxy") + " --config " + l.proxyConfig(nil) + " -v " + targetIP + " 22",
		"~/.ssh/id_ed25519.pub":  l.path("user.pub"),
	} {
		if strings.Count(script, from) != 1 {
			t.Fatalf("the commands name %q %d times", from, strings.Count(script, from))
		}
		script = strings.ReplaceAll(script, from, to)
	}
	dir := t.TempDir()
	run := func(script string) *process {
		return l.startWith(t, client, func(cmd *exec.Cmd) { cmd.Dir = dir }, "sh", "-euc", script)
	}
	p := run(script)
	p.wait(0)
	if got := p.stdout.String(); !strings.HasPrefix(got, `Good "link@sshka-proxy" signature for me with ED25519 key SHA256:`) {
		t.Errorf("%q", got)
	}
	verify := script[strings.LastIndex(script, "ssh-keygen"):]
	run("printf x >> message; " + verify).wait(255)
}
