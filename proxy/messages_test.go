package proxy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// messageGap is where a message of the page has something else each time, is put
// together from two, or repeats the system's words: a name, a number, what was left
// out, the cause behind a colon.
var messageGap = regexp.MustCompile(`FILE-cert\.pub|SHA256:\S*|open \\\\\S*|bind: address already in use|` +
	`\b(?:R|HOST|TARGET|FILE|LINE|KEY|SOCKET|STATE|DIR|PATH|REASON|N)\b|…|"[^"]*"|\b\d\S*|: |; |\(|\)|[.]{3}`)

// TestThePageQuotesWhatIsSaid: every message that docs/operations.md explains is in
// the programs' texts word for word, part by part. Whoever looks for what is on the
// screen has to find it.
func TestThePageQuotesWhatIsSaid(t *testing.T) {
	texts := saidTexts(t)
	for _, wrong := range []string{"no answer inside", "this is said nowhere"} {
		if strings.Contains(texts, wrong) {
			t.Fatalf("the programs' texts hold %q", wrong)
		}
	}
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, found := strings.Cut(string(page), "\n## 4 Messages\n")
	if !found {
		t.Fatal("docs/operations.md has no chapter of messages")
	}
	messages := 0
	for row := range strings.Lines(tables) {
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		cell, _, _ := strings.Cut(row[2:], " | ")
		for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(cell, -1) {
			messages++
			for _, part := range messageGap.Split(strings.Trim(quoted, "`"), -1) {
				part = strings.Trim(part, " ,.:;/`")
				if len(part) >= len("key") && !strings.Contains(texts, part) {
					t.Errorf("%s: nobody says %q", quoted, part)
				}
			}
		}
	}
	if messages < 60 {
		t.Errorf("only %d messages are read", messages)
	}
}

// saidTexts are the string literals of both programs, a line each; those that a plus
// joins are one.
func saidTexts(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, top := range []string{".", "../cmd"} {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok {
					return true
				}
				text, ok := literal(e)
				if ok {
					all.WriteString(text + "\n")
				}
				return !ok
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// literal is the text of a string literal, or of several that are added.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		x, okX := literal(e.X)
		y, okY := literal(e.Y)
		return x + y, e.Op == token.ADD && okX && okY
	}
	return "", false
}
