package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile is the largest configuration that is read, in bytes: thousands of
// rules, yet little enough for a parser that takes time with nonsense.
const maxFile = 256 << 10

// Load reads the file at path, as Find returned it; with an empty path it
// returns the defaults. The environment, for paths, is read through env, as by
// os.Getenv. The error joins one *Error for every complaint (errors.Join), in
// the order of their lines.
func Load(path string, env func(string) string) (*File, error) {
	if path == "" {
		return Parse("", nil, env)
	}
	data, mode, err := read(path)
	if err != nil {
		var pathErr *fs.PathError // repeats the name
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, &Error{File: path, Msg: "read the configuration: " + err.Error(), Err: err}
	}
	if mode&0o002 != 0 {
		return nil, &Error{File: path, Msg: fmt.Sprintf("everybody can write to it (mode %04o): chmod o-w %s", mode, path)}
	}
	f, err := Parse(path, data, env)
	if err == nil && f.Proxy.SocksUser != (Login{}) && mode&0o077 != 0 {
		return nil, f.Errorf("proxy.socks_user", "holds a password, and others can read this file (mode %04o): chmod 600 %s", mode, path)
	}
	return f, err
}

// read returns what stands in a file and its permissions, 0 where the system has
// none of that kind.
func read(path string) (data []byte, mode fs.FileMode, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && runtime.GOOS != "windows" {
		mode = info.Mode().Perm()
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	return data, mode, err
}

// Parse reads a configuration from memory; name is what complaints call it.
// Else it is as Load.
func Parse(name string, data []byte, env func(string) string) (*File, error) {
	f := Defaults()
	f.name = name
	f.positions = make(map[string]Position)
	d := &decoder{file: f}
	body, err := parseYAML(name, data)
	if err != nil {
		return nil, err
	}
	if body != nil {
		d.section("", body, f)
	}
	expandDefaults(f, env)
	d.errs = append(d.errs, check(f, env)...)
	if len(d.errs) == 0 {
		return f, nil
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	joined := make([]error, 0, len(d.errs))
	for _, e := range d.errs {
		joined = append(joined, e)
	}
	return nil, errors.Join(joined...)
}

// parseYAML returns the one document's body, nil when it is empty.
func parseYAML(name string, data []byte) (body ast.Node, err error) {
	defer func() {
		// The parser is not ours, and a file that it stumbles over is wrong anyway.
		if r := recover(); r != nil {
			body, err = nil, &Error{File: name, Msg: "not valid YAML: " + oneLine(fmt.Sprint(r))}
		}
	}()
	// Double keys are found by decoder, which knows their paths.
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		e := &Error{File: name, Msg: "not valid YAML: " + oneLine(err.Error()), Err: err}
		var y yaml.Error
		if errors.As(err, &y) {
			e.Msg = "not valid YAML: " + oneLine(y.GetMessage())
			if t := y.GetToken(); t != nil && t.Position != nil {
				e.Line, e.Column = t.Position.Line, t.Position.Column
			}
		}
		return nil, e
	}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.NullType {
			continue
		}
		if body != nil {
			p := nodePosition(name, doc.Body)
			return nil, &Error{File: name, Line: p.Line, Column: p.Column, Msg: "a second document; one file holds one"}
		}
		body = doc.Body
	}
	return body, nil
}

// oneLine shows what the parser quotes from the file without letting it act.
func oneLine(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

func nodePosition(name string, n ast.Node) Position {
	p := Position{File: name}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	return p
}
