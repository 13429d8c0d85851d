package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/wire"
)

// traceBeats lets -v show what the link's heart does.
func traceBeats(t *link.Trace, log *slog.Logger) {
	t.BeatAnswered = func(rtt time.Duration) { log.Debug("beat answered", "rtt", rtt) }
	t.BeatMissed = func(row int) { log.Debug("beat missed", "row", row) }
	t.SlowDown = func(interval time.Duration) { log.Debug("relay wants fewer beats", "interval", interval) }
	t.GoAway = func(after time.Duration, reason string) {
		log.Debug("relay goes away", "reason", reason, "come_back_after", after)
	}
}

// explainDirect names the target of a direct connection that broke.
func explainDirect(target wire.Target, err error) error {
	return fmt.Errorf("%s: %w", target, err)
}
