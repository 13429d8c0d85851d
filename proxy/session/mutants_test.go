package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// A mutant is a rule of the protocol switched off, as a file in testdata/mutants:
//
//	Why the rule is there, in a sentence or two.
//	test: TestModel
//	-- attach.go --
//	the text to be replaced, found exactly once
//	====
//	the text in its place
//
// The test has to fail with the mutant in place of the source. One that survives
// shows that nothing holds the rule.
type mutant struct {
	name  string
	test  string // which has to fail
	edits []edit
}

type edit struct{ file, old, new string }

// mutantSessions is how many sessions the model test has to find a mutant.
const mutantSessions = "4000"

func TestMutants(t *testing.T) {
	if os.Getenv("SSHKA_MUTANTS") == "" {
		t.Skip("set SSHKA_MUTANTS=run, or use make mutants: it builds this package once for each")
	}
	files, err := filepath.Glob("testdata/mutants/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	tests := map[string]bool{}
	mutants := make([]mutant, 0, len(files))
	for _, file := range files {
		m, err := readMutant(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		tests[m.test] = true
		mutants = append(mutants, m)
	}
	all := slices.Collect(maps.Keys(tests))
	if out, err := (mutant{test: "(" + strings.Join(all, "|") + ")"}).run(t); err != nil {
		t.Fatalf("without a mutant: %v\n%s", err, out) // theirs would say nothing
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := m.run(t)
			var exit *exec.ExitError
			switch {
			case err == nil:
				t.Errorf("%s passes: nothing holds this rule", m.test)
			case !errors.As(err, &exit), bytes.Contains(out, []byte("[build failed]")), bytes.Contains(out, []byte("no tests to run")):
				t.Errorf("%v\n%s", err, out)
			default:
				t.Logf("found:\n%s", firstLines(out, 6))
			}
		})
	}
}

func firstLines(b []byte, n int) []byte {
	return bytes.Join(bytes.SplitN(b, []byte("\n"), n+1)[:min(n, bytes.Count(b, []byte("\n")))], []byte("\n"))
}

// readMutant reads a mutant and checks that its old texts are in the source.
func readMutant(file string) (mutant, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return mutant{}, err
	}
	m := mutant{name: strings.TrimSuffix(filepath.Base(file), ".txt"), test: "TestModel"}
	for line := range strings.Lines(string(archive.Comment)) {
		if test, ok := strings.CutPrefix(line, "test: "); ok {
			m.test = strings.TrimSpace(test)
		}
	}
	for _, f := range archive.Files {
		before, after, ok := strings.Cut(string(f.Data), "====\n")
		if !ok {
			return m, errors.New(f.Name + ": no ==== between the old text and the new")
		}
		m.edits = append(m.edits, edit{f.Name, before, after})
	}
	if len(m.edits) == 0 {
		return m, errors.New("changes nothing")
	}
	_, err = m.sources()
	return m, err
}

// sources returns the changed files.
func (m mutant) sources() (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		source, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(e.file)
			if err != nil {
				return nil, err
			}
			source = string(b)
		}
		if n := strings.Count(source, e.old); n != 1 {
			return nil, errors.New("in " + e.file + " the old text stands not exactly once:\n" + e.old)
		}
		changed[e.file] = strings.Replace(source, e.old, e.new, 1)
	}
	return changed, nil
}

// run runs the mutant's test with the mutant in place.
func (m mutant) run(t *testing.T) ([]byte, error) {
	t.Helper()
	changed, err := m.sources()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for file, source := range changed {
		original, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		replace[original] = filepath.Join(dir, file)
		if err := os.WriteFile(replace[original], []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-timeout=1m",
		"-overlay", file, "-run", "^"+m.test+"$", ".")
	cmd.Env = append(os.Environ(), "SSHKA_MUTANTS=", "SSHKA_MODEL_SEED=", "SSHKA_MODEL_SESSIONS="+mutantSessions)
	return cmd.CombinedOutput()
}

// TestMutantsFit holds the mutants to the source: an edit that moves a rule has to
// take its mutant along.
func TestMutantsFit(t *testing.T) {
	files, err := filepath.Glob("testdata/mutants/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	for _, file := range files {
		if _, err := readMutant(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
