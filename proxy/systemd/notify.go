package systemd

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells that the program does its work, or does so again after Reloading.
func Ready(status string) { tell(daemon.SdNotifyReady, statusLine(status)) }

// Reloading tells that a configuration is being read. Ready follows, even if it
// was refused.
func Reloading() {
	// The time is what Type=notify-reload wants beside it, in the same message.
	tell(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// Stopping tells that the program is about to end.
func Stopping(status string) { tell(daemon.SdNotifyStopping, statusLine(status)) }

// Status tells a person what the program does now, in one line.
func Status(status string) { tell(statusLine(status)) }

// Extend asks for so much more time, from now, for a start or a stop.
func Extend(more time.Duration) { tell(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", more.Microseconds())) }

// statusLine is a line for `systemctl status`.
func statusLine(status string) string {
	if status == "" {
		return ""
	}
	return "STATUS=" + strings.Join(strings.Fields(status), " ")
}

// tell sends lines in one message. Empty ones are left out.
func tell(lines ...string) {
	var text strings.Builder
	for _, l := range lines {
		if l != "" {
			text.WriteString(l + "\n")
		}
	}
	_, _ = daemon.SdNotify(false, text.String())
}
