package proxy

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/sshka/sshka-proxy/"
	simnet = "proxy/internal/simnet"
	socket = "proxy/internal/socket"
	// The house stands on it.
	groundFloor = -1
	// The root package stands above all others, what the commands share above it, then
	// the commands and at last the end-to-end tests.
	rootFloor    = 99
	sharedFloor  = 100
	commandFloor = 101
	testFloor    = 102
)

// owners are the only packages that may import a module.
var owners = map[string]string{
	"hashicorp/yamux": "proxy/link",
	"/go-socks5":      "proxy/inbound",
	"prometheus/":     "proxy/metrics",
	"/go-systemd/":    "proxy/systemd",
}

// floors reads the table in doc.go.
func floors(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+) +floor (\d)  \w`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		all["proxy/"+m[1]] = n
	}
	return all
}

// house knows on which floor everything stands.
type house map[string]int

// floor is where a package of this module stands. The name is its folder.
func (h house) floor(pkg string) (int, bool) {
	switch {
	case pkg == "deploy": // files, no code
		return 0, true
	case pkg == socket:
		return groundFloor, true
	case strings.HasPrefix(pkg, "cmd/internal/"):
		return sharedFloor, true
	case strings.HasPrefix(pkg, "cmd/"):
		return commandFloor, true
	case strings.HasPrefix(pkg, "test/"), pkg == "test":
		return testFloor, true
	case pkg == "proxy":
		return rootFloor, true
	}
	n, ok := h[pkg]
	return n, ok
}

// complaint is what is wrong with a file in folder pkg that imports name, or "".
// inTest tells files that only tests are built from.
func (h house) complaint(pkg, name string, inTest bool) string {
	for part, owner := range owners {
		if strings.Contains(name, part) && pkg != owner {
			return "only " + owner + " may"
		}
	}
	target, own := strings.CutPrefix(name, module)
	if !own || inTest && target == pkg { // package x_test imports x
		return ""
	}
	if target == simnet {
		if inTest {
			return ""
		}
		return "it is for tests"
	}
	if pkg == simnet {
		return "it is used by the tests of every floor"
	}
	from, ok := h.floor(pkg)
	if !ok {
		return pkg + " has no floor in doc.go"
	}
	to, ok := h.floor(target)
	switch {
	case pkg == "proxy" && !inTest:
		return "it is the map, and builds nothing"
	case !ok:
		return target + " has no floor in doc.go"
	case to == from:
		return fmt.Sprintf("both stand on floor %d", from)
	case to > from:
		return fmt.Sprintf("floor %d is above floor %d", to, from)
	}
	return ""
}

func TestImportsGoStrictlyDown(t *testing.T) {
	h := house(floors(t))
	files := 0
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		pkg := strings.TrimPrefix(path.Dir(filepath.ToSlash(file)), "../")
		files++
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if _, ok := h.floor(pkg); !ok && pkg != simnet {
			t.Errorf("%s: package %s has no floor in doc.go", file, pkg)
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := h.complaint(pkg, name, strings.HasSuffix(file, "_test.go")); why != "" {
				t.Errorf("%s: %s must not import %s: %s", file, pkg, name, why)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err) // a file that went while we looked
	}
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were found", files)
	}
}

// TestTheRulesCanBeBroken: each row would be a mistake, or would not.
func TestTheRulesCanBeBroken(t *testing.T) {
	h := house(floors(t))
	for _, c := range []struct {
		pkg, name string
		inTest    bool
		want      string // part of the complaint; "": allowed
	}{
		{"proxy/session", module + "proxy/wire", false, ""},
		{"proxy/session", module + "proxy/link", false, "both stand on floor 1"},
		{"proxy/session", module + "proxy/link", true, "both stand on floor 1"},
		{"proxy/wire", module + "proxy/heartbeat", false, "both stand on floor 0"},
		{"proxy/wire", module + "proxy/session", false, "floor 1 is above floor 0"},
		{"proxy/client", module + "proxy/relay", false, "both stand on floor 3"},
		{"proxy/config", module + "proxy/relay", false, ""},
		{"proxy/config", module + "proxy/metrics", false, "both stand on floor 4"},
		{"proxy/relay", module + "cmd/sshka-relay", false, "is above"},
		{"proxy/link", module + simnet, true, ""},
		{"proxy/link", module + simnet, false, "for tests"},
		{simnet, module + "proxy/wire", false, "every floor"},
		{"proxy/splice", module + socket, false, ""},
		{socket, module + "proxy/wire", false, "is above"},
		{"proxy/link", module + "proxy/link", true, ""},
		{"proxy/link", "github.com/hashicorp/yamux", false, ""},
		{"proxy/relay", "github.com/hashicorp/yamux", true, "only proxy/link"},
		{"cmd/sshka-relay", "github.com/prometheus/client_golang/prometheus", false, "only proxy/metrics"},
		{"proxy/client", "github.com/armon/go-socks5", false, "only proxy/inbound"},
		{"proxy/util", module + "proxy/wire", false, "no floor"},
		{"proxy/client", module + "proxy/util", false, "no floor"},
		{"proxy", module + "proxy/client", false, "the map"},
		{"proxy", module + "proxy/client", true, ""},
		{"proxy/client", module + "proxy", false, "is above"},
		{"cmd/sshka-proxy", module + "proxy", false, ""},
		{"cmd/sshka-proxy", module + "proxy/relay", false, ""},
		{"cmd/sshka-proxy", module + "cmd/sshka-relay", false, "both stand"},
		{"cmd/sshka-proxy", module + "cmd/internal/manual", false, ""},
		{"cmd/internal/manual", module + "cmd/sshka-relay", false, "is above"},
		{"test", module + "cmd/sshka-relay", true, ""},
		{"proxy/wire", "encoding/binary", false, ""},
	} {
		got := h.complaint(c.pkg, c.name, c.inTest)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: %q, want %q", c.pkg, c.name, got, c.want)
		}
	}
}

// TestTheMapNamesWhatIsThere, and the table in doc.go is read as a whole.
func TestTheMapNamesWhatIsThere(t *testing.T) {
	all := floors(t)
	if len(all) < 13 || all["proxy/wire"] != 0 || all["proxy/config"] != 4 {
		t.Errorf("the table is read as %v", all)
	}
	folders, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range folders {
		if _, ok := all["proxy/"+d.Name()]; d.IsDir() && !ok && d.Name() != "internal" {
			t.Errorf("doc.go does not name %s", d.Name())
		}
	}
}
