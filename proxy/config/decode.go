package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills a File from a syntax tree. It goes through the tree itself,
// since a decoder of the YAML package stops at the first complaint and words it
// for programmers.
type decoder struct {
	file *File
	errs []*Error
}

// listSetter is a value that may be written as one text or as a list of them.
type listSetter interface{ setTexts(texts []string) error }

func (d *decoder) complain(path string, p Position, format string, args ...any) {
	d.errs = append(d.errs, &Error{File: d.file.name, Line: p.Line, Column: p.Column, Key: path, Msg: fmt.Sprintf(format, args...)})
}

func (d *decoder) at(n ast.Node) Position { return nodePosition(d.file.name, n) }

// section fills the struct that dst points to from a mapping.
func (d *decoder) section(path string, n ast.Node, dst any) {
	v := reflect.ValueOf(dst).Elem()
	fields := make(map[string]reflect.Value)
	var known []string // in the order of the struct
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "" {
			fields[key] = v.Field(i)
			known = append(known, key)
		}
	}
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.NullNode: // all its keys are commented out
		return
	default:
		d.complain(path, d.at(n), "%s where a section belongs; write its keys: %s", kindOf(n), strings.Join(known, ", "))
		return
	}
	seen := make(map[string]int) // the line of each key
	for _, pair := range pairs {
		at := d.at(pair.Key)
		key, ok := textOf(pair.Key)
		if !ok {
			d.complain(path, at, "%s where a key belongs; known here: %s", kindOf(pair.Key), strings.Join(known, ", "))
			continue
		}
		full := strings.TrimPrefix(path+"."+key, ".")
		field, ok := fields[key]
		switch {
		case !ok:
			d.complain(printable(full), at, "unknown key; %s", suggest(key, known))
		case seen[key] > 0:
			d.complain(full, at, "given twice; the first is on line %d", seen[key])
		default:
			seen[key] = at.Line
			d.file.positions[full] = at
			d.value(full, pair.Value, field)
		}
	}
}

// value fills v, which is settable, from the node of its key.
func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	dst := v.Addr().Interface()
	if _, isNull := n.(*ast.NullNode); isNull && !isSection(dst) {
		d.complain(path, d.file.positions[path], "has no value; write one or remove the key")
		return
	}
	switch dst := dst.(type) {
	case encoding.TextUnmarshaler:
		if text, ok := d.scalar(path, n); ok {
			d.result(path, n, dst.UnmarshalText([]byte(text)))
		}
	case listSetter:
		if texts, ok := d.texts(path, n, true); ok {
			d.result(path, n, dst.setTexts(texts))
		}
	case *string:
		if text, ok := d.text(path, n); ok {
			*dst = text
		}
	case *[]string:
		if texts, ok := d.texts(path, n, false); ok {
			*dst = texts
		}
	case *int:
		d.integer(path, n, dst)
	case *bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.complain(path, d.at(n), "%s where true or false belongs", kindOf(n))
			return
		}
		*dst = b.Value
	case *[]Forward:
		d.forwards(path, n, dst)
	default:
		d.section(path, n, dst)
	}
}

func isSection(dst any) bool {
	_, isText := dst.(encoding.TextUnmarshaler)
	_, isList := dst.(listSetter)
	return !isText && !isList && reflect.TypeOf(dst).Elem().Kind() == reflect.Struct
}

func (d *decoder) result(path string, n ast.Node, err error) {
	if err != nil {
		d.complain(path, d.at(n), "%v", err)
	}
}

// scalar returns a text, or a number as it is written.
func (d *decoder) scalar(path string, n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return d.text(path, n)
}

func (d *decoder) text(path string, n ast.Node) (string, bool) {
	s, ok := textOf(n)
	if !ok {
		hint := "write one text"
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
			hint = "put it in quotes"
		}
		d.complain(path, d.at(n), "%s where a text belongs; %s", kindOf(n), hint)
	}
	return s, ok
}

// texts returns the texts of a list, or with orOne a text as a list of one.
func (d *decoder) texts(path string, n ast.Node, orOne bool) ([]string, bool) {
	list, isList := n.(*ast.SequenceNode)
	if !isList {
		if orOne {
			s, ok := d.text(path, n)
			return []string{s}, ok
		}
		d.complain(path, d.at(n), "%s where a list belongs; write [a, b] or lines that begin with a dash", kindOf(n))
		return nil, false
	}
	out := make([]string, 0, len(list.Values))
	all := true
	for i, item := range list.Values {
		path := path + "[" + strconv.Itoa(i) + "]"
		d.file.positions[path] = d.at(item)
		s, ok := d.text(path, item)
		all = all && ok
		out = append(out, s)
	}
	return out, all
}

// forwards returns a list of sections.
func (d *decoder) forwards(path string, n ast.Node, dst *[]Forward) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		d.complain(path, d.at(n), "%s where a list belongs; write [{listen: \"127.0.0.1:2222\", target: \"db.internal:22\"}]", kindOf(n))
		return
	}
	for i, item := range list.Values {
		path := path + "[" + strconv.Itoa(i) + "]"
		d.file.positions[path] = d.at(item)
		var f Forward
		d.section(path, item, &f)
		*dst = append(*dst, f)
	}
}

func (d *decoder) integer(path string, n ast.Node, dst *int) {
	if _, ok := n.(*ast.IntegerNode); !ok {
		d.complain(path, d.at(n), "%s where a whole number belongs; write it in digits", kindOf(n))
		return
	}
	s := n.GetToken().Value
	i, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		d.complain(path, d.at(n), "%s is not a whole number that can be used; write 0 to 2147483647 in digits", s)
		return
	}
	*dst = int(i)
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// kindOf names what stands there, for a person.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	}
	return "something else"
}

// suggest says what an unknown key may have meant.
func suggest(key string, known []string) string {
	best, distance := "", 3 // two typing mistakes
	for _, k := range known {
		if n := editDistance(key, k); n < distance && n < len(k) {
			best, distance = k, n
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}

// editDistance counts the bytes to insert, remove, replace or swap with their
// neighbour between a and b. Lengths too far apart for suggest count as far.
func editDistance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return len(a) + len(b)
	}
	// rows[i][j] is the distance between a[:i] and b[:j].
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			best := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				best = min(best, rows[i-2][j-2]+1)
			}
			rows[i][j] = best
		}
	}
	return rows[len(a)][len(b)]
}

// printable keeps what a file holds in one line of text.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
