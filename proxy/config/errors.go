package config

import (
	"fmt"
	"strings"
)

// Position is a place in a configuration file.
type Position struct {
	// File is the file's name. Empty when there is no file.
	File string
	// Line and Column count from 1. Zero: not in the file.
	Line, Column int
}

// String returns FILE:LINE as far as they are known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is one complaint about a configuration, one line of text.
type Error struct {
	// File is the file's name. Empty when there is no file.
	File string
	// Line and Column count from 1. Zero: the complaint is about no line.
	Line, Column int
	// Key is the path of the key: "relay.allow[2]". Empty: the whole file.
	Key string
	// Msg says what is wrong and, behind a semicolon, what is allowed.
	Msg string
	// Err is the cause, or nil.
	Err error
}

// Error returns "FILE:LINE: KEY: what is wrong; what is allowed".
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{Position{e.File, e.Line, e.Column}.String(), e.Key, e.Msg} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
