package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
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

// showProof lets -v show what was signed, for `ssh-keygen -Y verify` to audit
// (docs/security.md).
func showProof(log *slog.Logger) func(keyauth.Evidence) {
	return func(e keyauth.Evidence) {
		log.Debug("ssh key proved", "key", e.Key,
			"message", base64.StdEncoding.EncodeToString(e.Message),
			"signature", base64.StdEncoding.EncodeToString(e.Signature))
	}
}

// explainDirect names the target of a direct connection that broke.
func explainDirect(target wire.Target, err error) error {
	return fmt.Errorf("%s: %w", target, err)
}
