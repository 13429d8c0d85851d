package config

import (
	"path/filepath"
	"runtime"
)

// windows tells that this program runs there.
const windows = runtime.GOOS == "windows"

// UserConfig returns the user's own configuration file, "" where there is no place
// for it: $XDG_CONFIG_HOME/sshka/config.yaml (~/.config where unset), on Windows
// %APPDATA%\sshka\config.yaml. The environment is read through env, as by os.Getenv.
func UserConfig(env func(string) string) string {
	return in(userDir(env, windows, "APPDATA", "XDG_CONFIG_HOME", ".config"), configName)
}

// UserState returns the user's own file of that name for what the programs remember,
// "" where there is no place for it: in $XDG_STATE_HOME/sshka (~/.local/state where
// unset), on Windows in %LOCALAPPDATA%\sshka.
func UserState(env func(string) string, name string) string {
	return in(userDir(env, windows, "LOCALAPPDATA", "XDG_STATE_HOME", ".local/state"), name)
}

// in is a file of a directory, "" where that has no place.
func in(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// userDir is a directory of ours: where Windows' variable says, elsewhere where the
// XDG base directory specification does, which wants a path that is not absolute
// ignored, else in the user's home.
func userDir(env func(string) string, windows bool, variable, xdg, inHome string) string {
	if windows {
		return in(env(variable), "sshka")
	}
	if dir := env(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sshka")
	}
	return in(env("HOME"), filepath.Join(inHome, "sshka"))
}

// homeDir is the user's home: %USERPROFILE% on Windows, as OpenSSH has it there, which
// takes no notice of a $HOME that some shells set.
func homeDir(env func(string) string, windows bool) string {
	if windows {
		return env("USERPROFILE")
	}
	return env("HOME")
}

// systemDir is where a configuration for all users is. On Windows there is none: any
// user may make a directory in the place for it.
func systemDir(windows bool) string {
	if windows {
		return ""
	}
	return "/etc/sshka"
}
