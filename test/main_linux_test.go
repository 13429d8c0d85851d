package test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// What the tests of one process share. All of it is set by TestMain.
var (
	// prefix begins the name of every namespace of this process.
	prefix = fmt.Sprintf("sshka%d-", os.Getpid())
	// workDir holds the binaries and is removed at the end.
	workDir string
)

func TestMain(m *testing.M) {
	if os.Getenv(janitorEnv) != "" {
		janitor()
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if os.Getenv("SSHKA_E2E") == "" {
		return m.Run() // every test skips itself
	}
	dir, err := os.MkdirTemp("", "sshka-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	workDir = dir
	defer os.RemoveAll(dir)
	stop, err := startJanitor()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the janitor:", err)
		return 1
	}
	defer stop()
	// Parallel tests spend their time idling, not computing.
	if f := flag.Lookup("test.parallel"); f != nil && !isSet("test.parallel") {
		f.Value.Set("16")
	}
	return m.Run()
}

func isSet(name string) bool {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// prerequisites returns what keeps the tests from running here.
var prerequisites = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("not root, and network namespaces need it")
	}
	var missing []string
	for _, tool := range []string{"ip", "ss", "nft", "ssh", "scp", "sftp", "ssh-keygen", "go", sshdPath} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, filepath.Base(tool))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s", strings.Join(missing, ", "))
	}
	return probeKernel()
})

// probeKernel tries in a namespace of its own what the NATs need: the sysctls of
// conntrack appear only where a rule uses it.
func probeKernel() error {
	ns := prefix + "probe"
	if err := addNamespace(ns); err != nil {
		return err
	}
	defer removeNamespaces(ns)
	if err := runIn(ns, "table inet t { chain c { type filter hook forward priority 0; ct state invalid drop; }; }", "nft", "-f", "-"); err != nil {
		return err
	}
	return sysctl(ns, "net.netfilter.nf_conntrack_tcp_timeout_established", "4")
}

// needLab skips the test, or fails it where the tests are required, if it cannot run here.
func needLab(t *testing.T) {
	t.Helper()
	mode := os.Getenv("SSHKA_E2E")
	switch mode {
	case "":
		t.Skip("end-to-end tests run with SSHKA_E2E=run (make e2e)")
	case "run", "require":
	default:
		t.Fatalf("SSHKA_E2E=%s: write run or require", mode)
	}
	err := prerequisites()
	switch {
	case err == nil:
	case mode == "require":
		t.Fatalf("end-to-end tests cannot run here: %v", err)
	default:
		t.Skipf("end-to-end tests cannot run here: %v", err)
	}
}

// needTools skips the test, or fails it where the tests are required, unless
// programs are installed that only some tests use.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	needLab(t)
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		switch {
		case err == nil:
		case os.Getenv("SSHKA_E2E") == "require":
			t.Fatalf("%s is not installed", tool)
		default:
			t.Skipf("%s is not installed", tool)
		}
	}
}

// binaries builds both programs once, as they are released: static.
var binaries = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(workDir, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", dir, "./cmd/sshka-proxy", "./cmd/sshka-relay")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("go build ./cmd/...: %w\n%s", err, &out)
	}
	return dir, nil
})

// program returns the path of one of the programs, where the tests run.
func program(t *testing.T, name string) string {
	t.Helper()
	needLab(t)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
