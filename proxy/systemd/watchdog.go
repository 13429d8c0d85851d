package systemd

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// beatsPerTimeout is how often the watchdog is told within its time.
const beatsPerTimeout = 3

// Watch tells the manager's watchdog that the program works, as often as it wants
// to hear that, until ctx is done. alive is the proof: it returns nil when the
// program has answered, and does not return while it is stuck. Then the
// manager hears nothing and restarts the program. Without a watchdog Watch returns
// at once.
func Watch(ctx context.Context, alive func(context.Context) error) error {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil || timeout <= 0 {
		return err
	}
	ticker := time.NewTicker(timeout / beatsPerTimeout)
	defer ticker.Stop()
	for {
		if alive(ctx) == nil {
			tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
