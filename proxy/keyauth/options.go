package keyauth

import (
	"errors"
	"fmt"
	"strings"
)

// option is one option of an authorized_keys line.
type option struct {
	name   string // lower case
	value  string // unquoted
	valued bool
}

// optionRule is what an option means here.
type optionRule struct {
	valued bool // name="value", else the name alone
	// apply changes what the line grants. Its error refuses the line.
	apply func(g *Grant, value string) error
}

// optionRules knows every option of sshd(8). An option that is not in it
// refuses its line, as does one that is in it and cannot be honoured yet: to
// ignore it would give a key more than its line says.
var optionRules = map[string]optionRule{
	"agent-forwarding":    {false, notYet},
	"cert-authority":      {false, notYet},
	"command":             {true, refuse("a forced command must not get raw TCP")},
	"environment":         {true, notYet},
	"expiry-time":         {true, notYet},
	"from":                {true, notYet},
	"no-agent-forwarding": {false, notYet},
	"no-port-forwarding":  {false, notYet},
	"no-pty":              {false, notYet},
	"no-touch-required":   {false, notYet},
	"no-user-rc":          {false, notYet},
	"no-x11-forwarding":   {false, notYet},
	"permitlisten":        {true, refuse("a key for listening ports must not get raw TCP")},
	"permitopen":          {true, notYet},
	"port-forwarding":     {false, notYet},
	"principals":          {true, notYet},
	"pty":                 {false, notYet},
	"restrict":            {false, notYet},
	"tunnel":              {true, refuse("a key for a tunnel device must not get raw TCP")},
	"user-rc":             {false, notYet},
	"verify-required":     {false, notYet},
	"x11-forwarding":      {false, notYet},
}

func notYet(*Grant, string) error { return errors.New("not implemented yet") }

func refuse(why string) func(*Grant, string) error {
	return func(*Grant, string) error { return fmt.Errorf("refused: %s", why) }
}

// applyOptions changes g as opts say. Its error names the first option that
// refuses the line.
func applyOptions(g *Grant, opts []option) error {
	for _, o := range opts {
		rule, known := optionRules[o.name]
		switch {
		case !known:
			return fmt.Errorf("unknown option %q", o.name)
		case rule.valued && !o.valued:
			return fmt.Errorf("option %q needs a value: %s=\"...\"", o.name, o.name)
		case !rule.valued && o.valued:
			return fmt.Errorf("option %q takes no value", o.name)
		}
		if err := rule.apply(g, o.value); err != nil {
			return fmt.Errorf("option %q: %w", o.name, err)
		}
	}
	return nil
}

// parseOptions reads the options that s starts with, up to the first blank
// outside quotes, and returns what follows them. The grammar is sshd's: comma
// between options, NAME or NAME="VALUE", in a value \" for a quote and no other
// escape.
func parseOptions(s string) (opts []option, rest string, err error) {
	for {
		n := 0
		for n < len(s) && isOptionName(s[n]) {
			n++
		}
		o := option{name: strings.ToLower(s[:n])}
		if n == 0 {
			return nil, "", fmt.Errorf("malformed options at %s", excerpt(s))
		}
		s = s[n:]
		if strings.HasPrefix(s, "=") {
			o.valued = true
			if o.value, s, err = parseQuoted(s[1:]); err != nil {
				return nil, "", fmt.Errorf("option %q: %w", o.name, err)
			}
		}
		opts = append(opts, o)
		switch {
		case s == "" || s[0] == ' ' || s[0] == '\t':
			return opts, trimBlanks(s), nil
		case s[0] != ',':
			return nil, "", fmt.Errorf("malformed options at %s", excerpt(s))
		}
		s = s[1:]
	}
}

func isOptionName(c byte) bool {
	return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// parseQuoted reads the quoted value that s starts with.
func parseQuoted(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("its value is not quoted")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("its quote is not closed")
}

// excerpt is the start of s, quoted, for an error.
func excerpt(s string) string {
	const most = 20
	if s == "" {
		return "the end of the line"
	}
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
