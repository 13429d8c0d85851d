package proxy_test

import (
	"io/fs"
	"os"
	pathpkg "path"
	"regexp"
	"strings"
	"testing"
)

// prover is a test as pages name it: its package and its function.
var prover = regexp.MustCompile("`([a-z]+)\\.((?:Test|Fuzz)[A-Z]\\w*)`")

// TestTheTestsThatPagesNameAreThere: whatever a page calls proven has its test.
func TestTheTestsThatPagesNameAreThere(t *testing.T) {
	root := os.DirFS("..")
	known := testFunctions(t, root)
	pages, _, err := followLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range pages {
		text, err := fs.ReadFile(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range prover.FindAllStringSubmatch(string(text), -1) {
			named++
			if !known[m[1]+"."+m[2]] {
				t.Errorf("%s: there is no test %s in package %s", page, m[2], m[1])
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d names of tests are read", named)
	}
}

// TestAClientIsProvenOrSaidNotToBe: each row of the table of docs/clients.md names its
// tests, or says that there are none.
func TestAClientIsProvenOrSaidNotToBe(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\n| client | way | proven by |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/clients.md has no table of clients")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	for _, row := range rows {
		if !prover.MatchString(row) && !strings.Contains(row, "not tested here") {
			t.Errorf("neither proven nor said not to be: %s", row)
		}
	}
	if len(rows) < 20 {
		t.Errorf("only %d rows are read", len(rows))
	}
}

// testFunctions are all tests below root, as PACKAGE.FUNCTION.
func testFunctions(t *testing.T, root fs.FS) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	known := make(map[string]bool)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != "." || entry.Name() == "dist" {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			known[pathpkg.Base(pathpkg.Dir(path))+"."+m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}
