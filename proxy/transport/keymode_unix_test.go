//go:build unix

package transport

import (
	"io/fs"
	"testing"
)

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
