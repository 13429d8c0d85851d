package config

import "testing"

// TestARelayOfRootOrAServiceIsTheSystems: it has another list of keys, and no
// account that a certificate could name.
func TestARelayOfRootOrAServiceIsTheSystems(t *testing.T) {
	f := Defaults()
	for _, c := range []struct {
		service string
		root    bool
		system  bool
		keys    string
	}{
		{"", false, false, "/home/me/.ssh/authorized_keys"},
		{"", true, true, "/etc/sshka/authorized_keys"},
		{"/var/lib/sshka", false, true, "/etc/sshka/authorized_keys"},
	} {
		env := map[string]string{"HOME": "/home/me", "STATE_DIRECTORY": c.service}
		p, err := f.Places(func(key string) string { return env[key] }, c.root)
		if err != nil || p.System != c.system || p.AuthorizedKeys != c.keys {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
}
