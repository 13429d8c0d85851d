package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const unitDir = "../deploy/systemd"

// needAnalyze skips the test, or fails it where the tests are required, without
// systemd-analyze. It needs no lab.
func needAnalyze(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("SSHKA_E2E") == "require" {
			t.Fatal("systemd-analyze is not installed")
		}
		t.Skip("systemd-analyze is not installed (Debian package systemd)")
	}
}

// units returns the files of deploy/systemd.
func units(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.service", "*.socket", "user/*.service"} {
		found, err := filepath.Glob(filepath.Join(unitDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) != 4 {
		t.Fatalf("units are %v, want four", all)
	}
	return all
}

func TestTheRelaysUnitIsClosed(t *testing.T) {
	t.Parallel()
	needAnalyze(t)
	// The threshold is in tenths: 2.0.
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", filepath.Join(unitDir, "sshka-relay.service")).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "Overall exposure level") {
		t.Errorf("it gives no verdict:\n%s", out)
	}
}

// A directive that systemd does not know is ignored, with a line in a journal that
// nobody reads.
func TestUnitsHaveNoMistakes(t *testing.T) {
	t.Parallel()
	needAnalyze(t)
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// Programs that are not installed here would be complained about. A socket
		// wants its service beside it.
		dir := t.TempDir()
		plain := strings.NewReplacer("/usr/bin/sshka-relay", "/bin/true", "/usr/bin/sshka-proxy", "/bin/true").Replace(string(text))
		copied := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(copied, []byte(plain), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(unit, ".socket") {
			service := strings.TrimSuffix(copied, ".socket") + ".service"
			if err := os.WriteFile(service, []byte("[Service]\nExecStart=/bin/true\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", copied).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// Every line that an operator may have to loosen says so above it, and the units
// agree with what the programs do.
func TestUnitsAreWhatThePagesSay(t *testing.T) {
	t.Parallel()
	pages, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range units(t) {
		if name := strings.TrimPrefix(unit, "../"); !strings.Contains(string(pages), name) {
			t.Errorf("docs/operations.md does not point to %s", name)
		}
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(unit, ".service") {
			for _, want := range []string{"\nType=notify\n", "\nExecReload=/bin/kill -HUP $MAINPID\n", "\nWatchdogSec=", "\nRestart=on-failure\n", "\nRestartPreventExitStatus=2\n", "\nLimitNOFILE="} {
				if !strings.Contains(string(text), want) {
					t.Errorf("%s lacks %q", unit, strings.TrimSpace(want))
				}
			}
		}
		if strings.Contains(unit, "/user/") && strings.Contains(string(text), "\nStateDirectory=") {
			t.Errorf("%s: with a StateDirectory a user's relay takes itself for the system's", unit)
		}
	}
}
