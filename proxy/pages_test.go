package proxy_test

import (
	"fmt"
	"io/fs"
	"os"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// TestLinksInPagesLeadSomewhere: every relative link of every page names a file that
// is there, and a heading that the file has.
func TestLinksInPagesLeadSomewhere(t *testing.T) {
	pages, broken, err := followLinks(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range broken {
		t.Error(link)
	}
	if len(pages) < 20 {
		t.Errorf("only %d pages are read", len(pages))
	}
}

// TestEveryPageIsInTheIndex: docs/README.md leads to each page of docs.
func TestEveryPageIsInTheIndex(t *testing.T) {
	const index = "docs/README.md"
	root := os.DirFS("..")
	text, err := fs.ReadFile(root, index)
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for _, link := range links(string(text)) {
		file, _, _ := strings.Cut(link.target, "#")
		linked = append(linked, pathpkg.Join("docs", file))
	}
	pages, err := fs.Glob(root, "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if page != index && !slices.Contains(linked, page) {
			t.Errorf("%s does not lead to %s", index, page)
		}
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	pages := fstest.MapFS{
		"README.md": {Data: []byte("# A\n[b](docs/b.md) [b](docs/b.md#two-words-) [c](docs/c.md)\n[d](docs) ![e](e.png) [w](https://example.com/x.md)\n")},
		"docs/b.md": {Data: []byte("## Two *words*!\n## Two `words`\n[1](#two-words) [2](#two-words-1) [3](#two-words-2) [4](../README.md#a) [5](../README.md#A)\n" +
			"    # indented\n```sh\n# no heading [x](gone.md)\n```\n`[y](gone.md)` [6](#no-heading) [7](../../up.md)\n### [Linked](b.md) `a_b` & c\n[8](#linked-a_b--c)\n")},
	}
	_, broken, err := followLinks(pages)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"README.md:2: docs/b.md has no heading #two-words-",
		"README.md:2: there is no docs/c.md",
		"README.md:3: there is no e.png",
		"docs/b.md:3: docs/b.md has no heading #two-words-2",
		"docs/b.md:3: README.md has no heading #A",
		"docs/b.md:8: docs/b.md has no heading #no-heading",
		"docs/b.md:8: ../up.md leads out of the repository",
	}
	if !slices.Equal(broken, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(broken, "\n"), strings.Join(want, "\n"))
	}
}

// followLinks reads every page below root and returns their names and what is wrong
// with their relative links.
func followLinks(root fs.FS) (pages, broken []string, err error) {
	texts := make(map[string]string)
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != "." {
			return fs.SkipDir
		}
		if entry.IsDir() || pathpkg.Ext(name) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		texts[name] = string(text)
		pages = append(pages, name)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, page := range pages {
		for _, link := range links(texts[page]) {
			if why := follow(root, texts, page, link.target); why != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %s", page, link.line, why))
			}
		}
	}
	return pages, broken, nil
}

// follow returns what is wrong with a page's link, "" if nothing is.
func follow(root fs.FS, texts map[string]string, page, target string) string {
	file, anchor, _ := strings.Cut(target, "#")
	to := page
	if file != "" {
		to = pathpkg.Join(pathpkg.Dir(page), file)
	}
	if !fs.ValidPath(to) {
		return to + " leads out of the repository"
	}
	if _, err := fs.Stat(root, to); err != nil {
		return "there is no " + to
	}
	if anchor != "" && !slices.Contains(anchors(texts[to]), anchor) {
		return to + " has no heading #" + anchor
	}
	return ""
}

// pageLink is a relative link, and the line that it stands in.
type pageLink struct {
	line   int
	target string
}

var (
	inlineCode = regexp.MustCompile("`[^`]*`")
	inlineLink = regexp.MustCompile(`\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)`)
	absolute   = regexp.MustCompile(`^[a-z]+:`)
)

// links returns the relative links of a page.
func links(text string) (all []pageLink) {
	for n, line := range prose(text) {
		for _, m := range inlineLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, ""), -1) {
			if !absolute.MatchString(m[2]) {
				all = append(all, pageLink{n + 1, m[2]})
			}
		}
	}
	return all
}

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(text string) (all []string) {
	seen := make(map[string]int)
	for _, line := range prose(text) {
		heading := strings.TrimLeft(line, "#")
		if level := len(line) - len(heading); level == 0 || level > 6 || !strings.HasPrefix(heading, " ") {
			continue
		}
		slug := slugOf(inlineLink.ReplaceAllString(heading, "$1"))
		name := slug
		if n := seen[slug]; n > 0 {
			name = fmt.Sprintf("%s-%d", slug, n)
		}
		seen[slug]++
		all = append(all, name)
	}
	return all
}

// slugOf is a heading in small letters, with a hyphen for each blank and nothing
// else that is neither letter, digit, hyphen nor underscore.
func slugOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, strings.TrimSpace(heading))
}

// prose returns the lines of a page with nothing in place of fenced code.
func prose(text string) []string {
	lines := strings.Split(text, "\n")
	fenced := false
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence || fenced {
			lines[i] = ""
		}
		if fence {
			fenced = !fenced
		}
	}
	return lines
}
