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
	// apply changes the line's terms. Its error refuses the line.
	apply func(t *terms, value string) error
}

// optionRules knows every option of sshd(8). An option that is not in it
// refuses its line: to ignore it could give a key more than its line says.
var optionRules = map[string]optionRule{
	// About what a line gives here: TCP connections, and who may ask for them.
	"cert-authority":     {false, func(t *terms, _ string) error { t.authority = true; return nil }},
	"expiry-time":        {true, (*terms).setUntil},
	"from":               {true, (*terms).setFrom},
	"no-port-forwarding": {false, func(t *terms, _ string) error { t.forbidden = "no-port-forwarding"; return nil }},
	"no-touch-required":  {false, func(t *terms, _ string) error { t.noTouch = true; return nil }},
	"permitopen":         {true, (*terms).addPermitOpen},
	"port-forwarding":    {false, func(t *terms, _ string) error { t.forbidden = ""; return nil }},
	"principals":         {true, (*terms).setPrincipals},
	"restrict":           {false, func(t *terms, _ string) error { t.forbidden = "restrict"; return nil }},
	"verify-required":    {false, func(t *terms, _ string) error { t.verify = true; return nil }},

	// Whoever wrote them did not mean to give TCP connections.
	"command":      {true, refuse("a forced command must not get raw TCP")},
	"permitlisten": {true, refuse("a key for listening ports must not get raw TCP")},
	"tunnel":       {true, refuse("a key for a tunnel device must not get raw TCP")},

	// About a login. There is none here: what they give is not given anyway, and
	// what they take away is not there.
	"agent-forwarding":    {false, noMeaning},
	"environment":         {true, noMeaning},
	"no-agent-forwarding": {false, noMeaning},
	"no-pty":              {false, noMeaning},
	"no-user-rc":          {false, noMeaning},
	"no-x11-forwarding":   {false, noMeaning},
	"pty":                 {false, noMeaning},
	"user-rc":             {false, noMeaning},
	"x11-forwarding":      {false, noMeaning},
}

func noMeaning(*terms, string) error { return nil }

func refuse(why string) func(*terms, string) error {
	return func(*terms, string) error { return fmt.Errorf("refused: %s", why) }
}

// readTerms returns what opts say together. Its error names the first option
// that refuses the line.
func readTerms(opts []option) (terms, error) {
	var t terms
	for _, o := range opts {
		rule, known := optionRules[o.name]
		switch {
		case !known:
			return t, fmt.Errorf("unknown option %q", o.name)
		case rule.valued && !o.valued:
			return t, fmt.Errorf("option %q needs a value: %s=\"...\"", o.name, o.name)
		case !rule.valued && o.valued:
			return t, fmt.Errorf("option %q takes no value", o.name)
		}
		if err := rule.apply(&t, o.value); err != nil {
			return t, fmt.Errorf("option %q: %w", o.name, err)
		}
	}
	return t, t.check()
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
