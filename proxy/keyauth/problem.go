package keyauth

import "fmt"

// Problem is something in or about an authorized_keys file that keeps a line,
// or the whole file, from authorizing anyone.
type Problem struct {
	// File is the path of the file, as the relay was given it.
	File string
	// Line counts from 1. Zero: the problem is the file's.
	Line int
	// Text is what is wrong, without the place.
	Text string
}

// String is FILE:LINE: TEXT, or FILE: TEXT.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}
