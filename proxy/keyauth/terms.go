package keyauth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// terms are what the options of a line say, while they are being read.
type terms struct {
	authority  bool     // the key signs certificates, and is not one to log in with
	principals []string // of certificates. Nil: not said
	from       string   // a list of patterns; see checkFrom. Empty: from anywhere
	permitOpen []PermitOpen
	until      time.Time
	noTouch    bool
	verify     bool
	// forbidden names the option that took TCP forwarding away. Empty: it is
	// granted.
	forbidden string
}

// check judges what only all options together tell.
func (t *terms) check() error {
	switch {
	case t.forbidden == "restrict":
		return errors.New("grants no TCP forwarding: restrict without port-forwarding after it")
	case t.forbidden != "":
		return fmt.Errorf("grants no TCP forwarding: %s", t.forbidden)
	case t.principals != nil && !t.authority:
		// sshd ignores it. Most likely cert-authority was forgotten, and then the
		// authority's own key would get in.
		return errors.New(`option "principals" means something with cert-authority only`)
	}
	return nil
}

// grant is what a line with these terms gives.
func (t *terms) grant() Grant {
	return Grant{PermitOpen: t.permitOpen, Until: t.until, NoTouch: t.noTouch, VerifyUser: t.verify}
}

func (t *terms) setFrom(list string) error {
	if t.from != "" {
		return errGivenTwice
	}
	t.from = list
	return checkFrom(list)
}

func (t *terms) addPermitOpen(value string) error {
	p, err := parsePermitOpen(value)
	t.permitOpen = append(t.permitOpen, p)
	return err
}

// setUntil keeps the earliest, as sshd does.
func (t *terms) setUntil(value string) error {
	at, err := parseExpiry(value, time.Local)
	if err == nil && (t.until.IsZero() || at.Before(t.until)) {
		t.until = at
	}
	return err
}

func (t *terms) setPrincipals(list string) error {
	if t.principals != nil {
		return errGivenTwice
	}
	t.principals = []string{}
	for name := range strings.SplitSeq(list, ",") {
		if name != "" {
			t.principals = append(t.principals, name)
		}
	}
	if len(t.principals) == 0 {
		return errors.New("names nobody")
	}
	return nil
}

var errGivenTwice = errors.New("given twice")

// parseExpiry reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in UTC if a Z
// follows, else in zone.
func parseExpiry(s string, zone *time.Location) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	if utc {
		zone = time.UTC
	}
	layout, ok := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	if !ok || strings.Trim(digits, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("%q is no time; write YYYYMMDD or YYYYMMDDHHMM[SS], with a Z behind it for UTC", clip(s))
	}
	at, err := time.ParseInLocation(layout, digits, zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: there is no such time", s)
	}
	return at, nil
}

// clip keeps what a file holds short enough for a message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
