package test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sshka/sshka-proxy/proxy/config"
)

// What the Containerfiles copy is there, and runs where there is nothing else.
func TestImagesHoldWhatTheyNeed(t *testing.T) {
	t.Parallel()
	needLab(t)
	root := packaged(t, "container")
	for _, name := range []string{"relay", "proxy"} {
		text, err := os.ReadFile(filepath.Join(root, "Containerfile."+name))
		if err != nil {
			t.Fatal(err)
		}
		copies := regexp.MustCompile(`(?m)^COPY (?:--chown=65532:65532 )?\$\{TARGETARCH\}/(\S+) (/\S+)$`).FindAllStringSubmatch(string(text), -1)
		if n := strings.Count(string(text), "\nCOPY "); n != len(copies) || n < 3 {
			t.Errorf("%s: %d of %d COPY lines are understood", name, len(copies), n)
		}
		for _, c := range copies {
			if _, err := os.Stat(filepath.Join(root, runtime.GOARCH, c[1])); err != nil {
				t.Error(err)
			}
		}
		program := "sshka-" + name
		for _, want := range []string{"\nFROM scratch\n", "\nUSER 65532:65532\n", `CMD ["/usr/bin/` + program + `", "status"]`, `ENTRYPOINT ["/usr/bin/` + program + `"]`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("Containerfile.%s lacks %q", name, want)
			}
		}
		expectStatic(t, filepath.Join(root, runtime.GOARCH, program))
	}
	f, err := config.Load(filepath.Join(root, runtime.GOARCH, "relay.yaml"), func(string) string { return "" })
	if err != nil || !slices.Equal(f.Relay.Allow, []string{"localhost:22"}) {
		t.Errorf("the relay's configuration: %v, %v", f, err)
	}
}

// expectStatic fails the test if the program needs a loader or a library, or does
// not run where it is alone.
func expectStatic(t *testing.T, program string) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is linked dynamically", program)
		}
	}
	dir := filepath.Dir(program)
	out, err := exec.Command("chroot", "--userspec=65532:65532", dir, "/"+filepath.Base(program), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), packageVersion) {
		t.Errorf("%s alone: %v\n%s", program, err, out)
	}
}
