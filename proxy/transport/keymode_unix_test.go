//go:build unix

package transport

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAKeyThatRootMakesIsTheServices: sudo sshka-relay fingerprint, before the service
// has run.
func TestAKeyThatRootMakesIsTheServices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes files for others")
	}
	const service = 4242
	for _, owner := range []int{service, 0} {
		dir := t.TempDir()
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Skip(err) // root of a namespace without that user
		}
		path := filepath.Join(dir, "relay_key")
		if _, made, err := LoadOrMakeRelayKey(path); err != nil || !made {
			t.Fatalf("made %t, %v", made, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != owner || int(st.Gid) != owner || info.Mode().Perm() != 0o600 {
			t.Errorf("in the directory of user %d: %v, of user %d", owner, info.Mode(), st.Uid)
		}
	}
}

func TestARelayKeyIsClosedToOthers(t *testing.T) {
	t.Parallel()
	const root, me = 0, 65532
	for _, tt := range []struct {
		mode      fs.FileMode
		owner, me int
		want      bool
	}{
		{0o600, me, me, true},
		{0o400, root, root, true},
		{0o440, root, me, true},    // a Secret with an fsGroup
		{0o640, root, me, true},    // the same, as distributions keep keys
		{0o440, root, root, false}, // root needs no group
		{0o640, me, me, false},     // one's own file can be closed
		{0o640, 1000, me, false},   // and who is that?
		{0o460, root, me, false},   // whoever writes it chooses the key
		{0o444, root, me, false},
		{0o644, root, me, false},
		{0o604, me, me, false},
		{0o602, me, me, false},
	} {
		if got := closed(tt.mode, tt.owner, tt.me); got != tt.want {
			t.Errorf("mode %04o of user %d, for user %d: %t, want %t", tt.mode, tt.owner, tt.me, got, tt.want)
		}
	}
}
