package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, never negative, written with units: 20s, 1h30m,
// 100ms. 0 needs none.
type Duration time.Duration

// ParseDuration reads a Duration as a configuration file or a flag writes it.
func ParseDuration(s string) (Duration, error) {
	const allowed = "write a number and a unit such as 100ms, 20s, 5m or 1h30m"
	if s == "0" {
		return 0, nil
	}
	if isDigits(s) {
		return 0, fmt.Errorf("%s has no unit; write %ss if seconds are meant", s, s)
	}
	if strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%q is negative; 0 means off", s)
	}
	d, err := time.ParseDuration(s)
	if err != nil || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%q is not a duration; %s", s, allowed)
	}
	return Duration(d), nil
}

// String returns d as ParseDuration reads it.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText is ParseDuration. On an error d stays as it is.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// Size is a number of bytes, never negative, written with a unit: 64KiB, 4MiB.
// 0 needs none.
type Size int64

// The units of sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// sizeUnits from the largest.
var sizeUnits = []struct {
	name string
	size Size
}{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// ParseSize reads a Size as a configuration file or a flag writes it.
func ParseSize(s string) (Size, error) {
	const allowed = "write a whole number and one of B, KiB, MiB, GiB, such as 4MiB"
	if s == "0" {
		return 0, nil
	}
	if isDigits(s) {
		return 0, fmt.Errorf("%s has no unit; %s", s, allowed)
	}
	if strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("%q is negative; %s", s, allowed)
	}
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok || !isDigits(number) {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > math.MaxInt64/int64(u.size) {
			return 0, fmt.Errorf("%q is too large; at most %d bytes can be counted", s, int64(math.MaxInt64))
		}
		return Size(n) * u.size, nil
	}
	return 0, fmt.Errorf("%q is not a size; %s", s, allowed)
}

// String returns n in the largest unit that divides it, as ParseSize reads it.
func (n Size) String() string {
	if n == 0 {
		return "0"
	}
	for _, u := range sizeUnits {
		if n%u.size == 0 {
			return strconv.FormatInt(int64(n/u.size), 10) + u.name
		}
	}
	return "" // every size is a number of bytes
}

// UnmarshalText is ParseSize. On an error n stays as it is.
func (n *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err == nil {
		*n = v
	}
	return err
}

// Login is a name and a password, written NAME:PASSWORD. The zero Login is none.
type Login struct{ User, Password string }

// UnmarshalText reads NAME:PASSWORD, or nothing.
func (l *Login) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*l = Login{}
		return nil
	}
	user, password, ok := strings.Cut(string(b), ":")
	switch {
	case !ok || user == "" || password == "":
		return errors.New("not a login; write NAME:PASSWORD") // and show nothing of it
	case len(user) > 255 || len(password) > 255:
		return errors.New("too long for SOCKS5; a name and a password have at most 255 bytes")
	}
	*l = Login{user, password}
	return nil
}

// String hides the password.
func (l Login) String() string { return l.User + ":…" }

// Memory is a limit in bytes, or as much as suits this computer: zero.
type Memory Size

// minMemory is the least that a few sessions can work with.
const minMemory = 16 * MiB

// UnmarshalText reads auto, or a size.
func (m *Memory) UnmarshalText(b []byte) error {
	if string(b) == "auto" {
		*m = 0
		return nil
	}
	n, err := ParseSize(string(b))
	switch {
	case err != nil:
		return fmt.Errorf("%w, or auto", err)
	case n < minMemory:
		return fmt.Errorf("%s is too little; write at least %s, or auto", n, minMemory)
	}
	*m = Memory(n)
	return nil
}

// String returns m as UnmarshalText reads it.
func (m Memory) String() string {
	if m == 0 {
		return "auto"
	}
	return Size(m).String()
}

// Level is how much is logged.
type Level slog.Level

// UnmarshalText reads debug, info, warn or error.
func (l *Level) UnmarshalText(b []byte) error {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[string(b)]
	if !ok {
		return notOneOf(string(b), "debug", "info", "warn", "error")
	}
	*l = Level(level)
	return nil
}

// String returns the level as the configuration writes it.
func (l Level) String() string { return strings.ToLower(slog.Level(l).String()) }

// Format is how a log line looks.
type Format string

// The formats. FormatAuto is text on a terminal and json elsewhere.
const (
	FormatAuto Format = "auto"
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// UnmarshalText reads auto, text or json.
func (f *Format) UnmarshalText(b []byte) error {
	return setOneOf(f, b, FormatAuto, FormatText, FormatJSON)
}

// Fallback is what a new session does when the relay cannot be reached.
type Fallback string

// The fallbacks: fail, or dial the target without a relay.
const (
	FallbackNone   Fallback = "none"
	FallbackDirect Fallback = "direct"
)

// UnmarshalText reads none or direct.
func (f *Fallback) UnmarshalText(b []byte) error {
	return setOneOf(f, b, FallbackNone, FallbackDirect)
}

func setOneOf[T ~string](dst *T, b []byte, allowed ...T) error {
	names := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if string(a) == string(b) {
			*dst = a
			return nil
		}
		names = append(names, string(a))
	}
	return notOneOf(string(b), names...)
}

func notOneOf(got string, allowed ...string) error {
	last := len(allowed) - 1
	return fmt.Errorf("%q is not known; write %s or %s", got, strings.Join(allowed[:last], ", "), allowed[last])
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parsePort reads a port from lowest, 0 or 1, to 65535.
func parsePort(s string, lowest uint64) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < lowest {
		return errors.New(strconv.Quote(s) + " is not a port; ports are " + strconv.FormatUint(lowest, 10) + " to 65535")
	}
	return nil
}
