package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheConfigurationIsFoundInOrder(t *testing.T) {
	const (
		own    = "/home/me/.config/sshka/config.yaml"
		xdg    = "/xdg/sshka/config.yaml"
		system = "/etc/sshka/config.yaml"
	)
	tests := []struct {
		name, explicit string
		env            map[string]string
		files          string
		want           string
	}{
		{"nothing", "", nil, "", ""},
		{"named, though missing", "my.yaml", map[string]string{"SSHKA_CONFIG": "env.yaml"}, own, "my.yaml"},
		{"environment, though missing", "", map[string]string{"SSHKA_CONFIG": "env.yaml"}, own, "env.yaml"},
		{"home", "", map[string]string{"HOME": "/home/me"}, own + " " + system, own},
		{"XDG", "", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "/xdg"}, own + " " + xdg, xdg},
		{"XDG replaces home", "", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "/xdg"}, own + " " + system, system},
		{"XDG relative counts as unset", "", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "xdg"}, own, own},
		{"system", "", map[string]string{"HOME": "/home/me"}, system, system},
		{"no home", "", nil, system, system},
	}
	for _, tt := range tests {
		env := func(k string) string { return tt.env[k] }
		exists := func(p string) bool { return strings.Contains(" "+tt.files+" ", " "+filepath.ToSlash(p)+" ") }
		if got := filepath.ToSlash(find(tt.explicit, env, []string{UserConfig(env), "/etc/sshka/config.yaml"}, exists)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}

	dir := t.TempDir()
	path := filepath.Join(dir, "sshka", "config.yaml")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(k string) string { return map[string]string{"XDG_CONFIG_HOME": dir}[k] }
	if got := Find("", env); got != path {
		t.Errorf("got %q, want %q", got, path)
	}
}

func TestARelaysConfigurationIsFoundInOrder(t *testing.T) {
	const (
		own         = "/home/me/.config/sshka/relay.yaml"
		shared      = "/home/me/.config/sshka/config.yaml"
		system      = "/etc/sshka/relay.yaml"
		systemsBoth = "/etc/sshka/config.yaml"
	)
	env := func(k string) string { return map[string]string{"HOME": "/home/me"}[k] }
	for _, tt := range []struct {
		name   string
		system bool
		files  []string
		want   string
	}{
		{"nothing", true, nil, ""},
		{"the user's own", false, []string{own, shared, system, systemsBoth}, own},
		{"the user's for both programs", true, []string{shared, system, systemsBoth}, shared},
		{"the system's", true, []string{system, systemsBoth}, system},
		{"a user's relay is not the system's", false, []string{system, systemsBoth}, systemsBoth},
	} {
		exists := func(p string) bool { return slices.Contains(tt.files, filepath.ToSlash(p)) }
		if got := filepath.ToSlash(find("", env, relayPlaces(env, "/etc/sshka", tt.system), exists)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if places := relayPlaces(func(string) string { return "" }, "", true); strings.Join(places, "") != "" {
		t.Errorf("without any place: %q", places)
	}
}

func TestOnlyThreeThingsExpand(t *testing.T) {
	env := func(k string) string {
		return map[string]string{"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/me", "USER": "me"}[k]
	}
	for path, want := range map[string]string{
		"~/a":                  "/home/me/a",
		"$HOME/a/b":            "/home/me/a/b",
		"$HOME":                "/home/me",
		"$XDG_RUNTIME_DIR/a":   "/run/me/a",
		"/a/~/b":               "/a/~/b",
		"relative/a":           "relative/a",
		"/with space/and:more": "/with space/and:more",
	} {
		if got, err := expandPath(path, env); err != nil || filepath.ToSlash(got) != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", "~", "~me/a", "$USER/a", "${HOME}/a", "$HOMEX/a", "a$HOME/b", "/a/$HOME", "~/$USER", "/a\nb", "/a\x00b"} {
		if got, err := expandPath(path, env); err == nil {
			t.Errorf("%q: accepted as %q", path, got)
		}
	}
	for _, path := range []string{"~/a", "$HOME", "$XDG_RUNTIME_DIR/a"} {
		if got, err := expandPath(path, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "not set") {
			t.Errorf("%s without a variable: got %q, %v", path, got, err)
		}
	}
}

func TestWindowsHasPlacesOfItsOwn(t *testing.T) {
	env := func(k string) string {
		return map[string]string{
			"HOME": "/c/Users/me", "USERPROFILE": `C:\Users\me`, "APPDATA": `C:\Users\me\AppData\Roaming`, "LOCALAPPDATA": `C:\Users\me\AppData\Local`,
			"XDG_CONFIG_HOME": "/xdg", "XDG_STATE_HOME": "/xdg",
		}[k]
	}
	slashes := func(path string) string { return strings.ReplaceAll(path, `\`, "/") }
	if got := slashes(userDir(env, true, "APPDATA", "XDG_CONFIG_HOME", ".config")); got != "C:/Users/me/AppData/Roaming/sshka" {
		t.Errorf("configuration in %s", got)
	}
	if got := slashes(userDir(env, true, "LOCALAPPDATA", "XDG_STATE_HOME", ".local/state")); got != "C:/Users/me/AppData/Local/sshka" {
		t.Errorf("state in %s", got)
	}
	for path, want := range map[string]string{
		"~/.ssh/id_ed25519": "C:/Users/me/.ssh/id_ed25519",
		`~\.ssh\id_rsa`:     "C:/Users/me/.ssh/id_rsa",
		"$HOME/a":           "C:/Users/me/a",
		`C:\keys\$me\id`:    "C:/keys/$me/id", // as shares are called
	} {
		if got, err := expandPathOn(true, path, env); err != nil || slashes(got) != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	none := func(string) string { return "" }
	for _, path := range []string{`~me\a`, `$USER\a`, "$XDG_RUNTIME_DIR/a"} {
		if got, err := expandPathOn(true, path, env); err == nil {
			t.Errorf("%q: accepted as %q", path, got)
		}
	}
	if _, err := expandPathOn(true, "~/a", none); err == nil || !strings.Contains(err.Error(), "needs %USERPROFILE%") {
		t.Errorf("%v", err)
	}
	if got := userDir(none, true, "APPDATA", "XDG_CONFIG_HOME", ".config"); got != "" {
		t.Errorf("%q without a profile", got)
	}
	if got := systemDir(true); got != "" {
		t.Errorf("%s is anybody's to write", got)
	}
}
