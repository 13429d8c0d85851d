package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Find returns the configuration file of sshka-proxy: explicit (from --config), else
// $SSHKA_CONFIG, else the first that exists of UserConfig and, but for Windows,
// /etc/sshka/config.yaml, else "". The environment is read through env, as by
// os.Getenv. A file that was named is returned whether it exists or not: that
// it does not is an error to report, not a reason to read another.
func Find(explicit string, env func(string) string) string {
	return find(explicit, env, []string{UserConfig(env), in(systemDir(windows), configName)}, exists)
}

// FindRelay is Find for sshka-relay, which prefers a relay.yaml in each of the two
// places: sshka-proxy init writes a user's, packages the system's, which is for the
// system's relay alone. system tells that it is that one's.
func FindRelay(explicit string, env func(string) string, system bool) string {
	return find(explicit, env, relayPlaces(env, systemDir(windows), system), exists)
}

const (
	configName = "config.yaml"
	relayName  = "relay.yaml"
)

// relayPlaces are where a relay's configuration may be, the first that counts first.
func relayPlaces(env func(string) string, systemDir string, system bool) []string {
	own := UserConfig(env)
	places := []string{in(dirOf(own), relayName), own}
	if system {
		places = append(places, in(systemDir, relayName))
	}
	return append(places, in(systemDir, configName))
}

// dirOf is a file's directory, "" where it has no place.
func dirOf(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Dir(path)
}

// exists is false for a file in a directory that is closed to this user: it is not meant
// for this user.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func find(explicit string, env func(string) string, places []string, exists func(string) bool) string {
	if explicit != "" {
		return explicit
	}
	if path := env("SSHKA_CONFIG"); path != "" {
		return path
	}
	for _, path := range places {
		if path != "" && exists(path) {
			return path
		}
	}
	return ""
}

// expandPath replaces ~/, $HOME and $XDG_RUNTIME_DIR at the start of a path.
// Anything else that looks like a variable is an error: it would become the
// name of a file. On Windows the home is %USERPROFILE%, and ~\ is as good as ~/.
func expandPath(path string, env func(string) string) (string, error) {
	return expandPathOn(windows, path, env)
}

func expandPathOn(windows bool, path string, env func(string) string) (string, error) {
	const allowed = "only ~/, $HOME and $XDG_RUNTIME_DIR at the start of a path are replaced"
	if path == "" {
		return "", errors.New("is empty; name a file")
	}
	if strings.ContainsAny(path, "\x00\n\r") {
		return "", fmt.Errorf("%q is not a path; write it in one line", path)
	}
	separators := "/"
	if windows {
		separators = `/\`
	}
	first, rest := path, ""
	if i := strings.IndexAny(path, separators); i >= 0 {
		first, rest = path[:i], path[i+1:]
	}
	if strings.Contains(rest, "$") && !windows || strings.HasPrefix(first, "~") && (first != "~" || path == first) {
		return "", fmt.Errorf("%q: %s", path, allowed)
	}
	var variable string
	switch {
	case first == "~", first == "$HOME":
		variable = "HOME"
	case first == "$XDG_RUNTIME_DIR":
		variable = "XDG_RUNTIME_DIR"
	case strings.Contains(first, "$"):
		return "", fmt.Errorf("%q: %s", path, allowed)
	default:
		return path, nil
	}
	dir := env(variable)
	if variable == "HOME" {
		dir = homeDir(env, windows)
	}
	if dir == "" {
		if windows && variable == "HOME" {
			return "", fmt.Errorf("%q needs %%USERPROFILE%%, which is not set; write the whole path", path)
		}
		return "", fmt.Errorf("%q needs $%s, which is not set; write the whole path", path, variable)
	}
	return filepath.Join(dir, rest), nil
}

// expandDefaults does the same for the defaults of keys that the file does not
// give. Where the variable is not set, as for a relay that is a system service,
// nobody asked for these files: they are left out. On Windows what this program
// remembers is in one place.
func expandDefaults(f *File, env func(string) string) {
	if _, given := f.positions["proxy.known_relays"]; !given {
		f.Proxy.KnownRelays, _ = expandPath(f.Proxy.KnownRelays, env)
		if windows {
			f.Proxy.KnownRelays = UserState(env, "known_relays")
		}
	}
	if !f.Given("proxy.socket") {
		var err error
		if f.Proxy.Socket, err = expandPath(defaultSocket, env); err != nil {
			f.Proxy.Socket, _ = expandPath(fallbackSocket, env)
		}
		if windows {
			f.Proxy.Socket = UserState(env, "proxy.sock")
		}
	}
	if _, given := f.positions["proxy.identity"]; given {
		return
	}
	var out []string
	for _, id := range f.Proxy.Identity {
		if id == IdentityAgent {
			out = append(out, id)
		} else if path, err := expandPath(id, env); err == nil {
			out = append(out, path)
		}
	}
	f.Proxy.Identity = out
}
