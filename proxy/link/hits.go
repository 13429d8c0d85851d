package link

// Limit names a limit that a link sets its peer, as a label of
// sshka_limits_hit_total.
type Limit string

// The limits, and what happens when one is hit.
const (
	LimitStreams  Limit = "streams_per_link" // Config.MaxStreams: the link is ended
	LimitUnread   Limit = "unread_per_link"  // bytes that no carrier has read: nothing more is read from the link
	LimitBeatPace Limit = "beat_pace"        // the peer beats too fast: it is told to slow down, then the link is ended
)

// Limits lists every Limit, for labels that exist from the start.
var Limits = []Limit{LimitStreams, LimitUnread, LimitBeatPace}

// hit tells that the peer has hit a limit.
func (l *Link) hit(limit Limit) {
	if l.trace.LimitHit != nil {
		l.trace.LimitHit(limit)
	}
}
