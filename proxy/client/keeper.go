package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/link"
	"github.com/sshka/sshka-proxy/proxy/notice"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

const (
	// probeTime is how long a link may take to answer after the computer woke up
	// or its network changed, before another one is dialled beside it.
	probeTime = time.Second
	// proofTime is how long a new link may take to answer its first beat, when it
	// is to replace one that is still there.
	proofTime = 4 * time.Second
	// quietTimeouts is for how many of its timeouts a link is not suspected after
	// a false alarm; each further one doubles that, up to maxQuiet.
	quietTimeouts = 10
	maxQuiet      = 5 * time.Minute
	// maxComeBack is how long a relay may keep us away.
	maxComeBack = time.Minute
	// maxAttempts is how many attempts may be under way at once.
	maxAttempts = 2
	// farTries is how many attempts in a hurry are followed by one that is not.
	farTries = 8
)

// keeper keeps one link up: it dials, and while the link that is there is in doubt
// or too old, it makes a second one before it breaks the first. One goroutine runs
// it and alone touches its fields; everybody else gives that goroutine functions
// to call.
//
//	          doubt, age            authenticated         beat answered
//	up ────────────────▶ attempts ────────────────▶ next ───────────────▶ up
//	 │ lost                ▲   │                      │ the old one has received
//	 └───────▶ none ───────┘   │ failed               │ a byte meanwhile: it wins
//	                ▲──pause───┘                      └─▶ closed, quiet time
type keeper struct {
	c      *Client
	ctx    context.Context //nolint:containedctx // of run: links and attempts end with it
	events chan func()
	over   chan struct{} // closed when events are not taken any more
	tasks  sync.WaitGroup

	up    *uplink // sessions use it; nil: none
	next  *uplink // is to replace up, once it is proven
	links int     // that run, those that were replaced included

	attempts []*attempt
	last     time.Time // when the newest of them began
	at       time.Time // when another is to begin; zero: not by itself
	notYet   time.Time // not before, as the relay asked
	redial   redial
	everUp   bool
	fatal    error // ends run

	why      link.Reason   // up may be lost, for this reason; empty: it is not in doubt
	aged     bool          // up is as old as it may get
	heard    time.Duration // when up had received its last byte, as it was suspected
	noticed  time.Time     // when the last notice came
	quiet    time.Duration // after the last false alarm
	quietTil time.Time
	age      *time.Timer
	tries    int                        // attempts so far
	far      bool                       // the last one that failed was connected, and had too little time
	addrs    func() ([]net.Addr, error) // this computer's

	ticket keyauth.Ticket // of the newest link
	addr   string         // where the relay was reached last
}

// attempt is one try to reach the relay.
type attempt struct {
	began   time.Time
	cancel  context.CancelFunc
	signing bool // a person may be looking for a key to touch
	dropped bool // nobody wants it any more
	patient bool // it has all the time that it may need
}

// run works until ctx is done or no retry helps.
func (k *keeper) run(ctx context.Context) error {
	var cancel context.CancelFunc
	k.ctx, cancel = context.WithCancel(ctx)
	defer func() {
		cancel()
		for k.links > 0 { // they say goodbye
			f := <-k.events
			f()
		}
		close(k.over)
		if k.age != nil {
			k.age.Stop()
		}
		k.tasks.Wait()
	}()
	if watch := k.c.cfg.Notice; watch != nil {
		k.tasks.Go(func() {
			watch(k.ctx, func(e notice.Event) { k.tell(func() { k.notice(e) }) })
		})
	}
	k.at = time.Now()
	for k.fatal == nil {
		var timer <-chan time.Time
		if !k.at.IsZero() {
			timer = time.After(time.Until(k.at))
		}
		select {
		case <-timer:
			k.at = time.Time{}
			k.dial()
		case f := <-k.events:
			f()
		case asked := <-k.c.pulse:
			close(asked)
		case <-k.c.kick:
			k.hurry(false)
		case <-k.c.nudge:
			k.hurry(true)
		case <-k.ctx.Done():
			return nil
		}
	}
	return k.fatal
}

// tell lets the keeper's goroutine call f, unless it has ended.
func (k *keeper) tell(f func()) {
	select {
	case k.events <- f:
	case <-k.over:
	}
}

// waiting reports whether sessions feel every second that passes.
func (k *keeper) waiting() bool { return k.c.waiting.Load() > 0 || k.suspecting() }

// suspecting reports whether there is a link that may be lost.
func (k *keeper) suspecting() bool { return k.up != nil && k.why != "" }

// room is how many attempts may be under way.
func (k *keeper) room() int {
	signing := func(a *attempt) bool { return a.signing }
	switch {
	case slices.ContainsFunc(k.attempts, signing): // one prompt at a time
		return 0
	case k.waiting():
		return maxAttempts
	}
	return 1
}

// dial begins an attempt, if one is wanted and there is room for it.
func (k *keeper) dial() {
	if k.up != nil && k.why == "" && !k.aged || k.next != nil {
		return
	}
	if k.suspecting() && k.up.link.Received() != k.heard {
		k.falseAlarm()
		return
	}
	now := time.Now()
	if now.Before(k.notYet) {
		k.at = k.notYet
		return
	}
	if len(k.attempts) >= k.room() {
		return
	}
	k.last = now
	k.tries++
	if k.waiting() { // another, should this one hang
		k.at = now.Add(waitingPause)
	}
	a := &attempt{began: now}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(k.ctx)
	k.attempts = append(k.attempts, a)
	d := k.dialer(a)
	k.tasks.Go(func() {
		conn, err := d.Dial(ctx)
		select {
		case k.events <- func() { k.dialled(a, conn, err) }:
		case <-k.over:
			a.cancel()
			if err == nil {
				conn.Close()
			}
		}
	})
}

// dialer is how an attempt is made now.
func (k *keeper) dialer(a *attempt) *transport.Dialer {
	d := *k.c.cfg.Dialer
	// The way may be long: one attempt at a time then has all the time it may need.
	far := k.far || k.tries%farTries == 0
	a.patient = far && !slices.ContainsFunc(k.attempts, func(b *attempt) bool { return b.patient })
	if k.waiting() && !a.patient && d.ConnectTimeout == 0 && d.HandshakeTimeout == 0 {
		d.ConnectTimeout, d.HandshakeTimeout = waitingConnect, waitingHandshake
	}
	d.LastAddr = k.addr
	d.Tickets = nil
	if k.ticket.Valid() {
		d.Tickets = append(d.Tickets, k.ticket)
	}
	if more := k.c.cfg.Tickets; more != nil {
		d.Tickets = append(d.Tickets, more()...)
	}
	d.Tickets = d.Tickets[:min(len(d.Tickets), keyauth.MaxTickets)]
	d.Witness.Signing = func(begins bool) { k.tell(func() { a.signing = begins }) }
	return &d
}

// dialled takes an attempt's outcome.
func (k *keeper) dialled(a *attempt, conn *transport.Conn, err error) {
	k.attempts = slices.DeleteFunc(k.attempts, func(b *attempt) bool { return a == b })
	a.cancel()
	took := time.Since(a.began)
	if f := k.c.cfg.Trace.Dialled; f != nil && !a.dropped {
		f(took, err)
	}
	if a.dropped || k.next != nil || k.ctx.Err() != nil {
		if err == nil {
			conn.Close()
		}
		return
	}
	if err == nil {
		err = k.newUplink(conn)
	}
	if err != nil {
		k.failed(took, err)
		return
	}
	if addr, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		k.addr = addr.String()
	}
	if k.up == nil {
		k.promote()
	} else {
		k.prove(k.next)
	}
}

// prove asks u for its first beat, and ends it when that is not answered in time.
func (k *keeper) prove(u *uplink) {
	u.link.Probe(proofTime)
	time.AfterFunc(proofTime, func() {
		k.tell(func() {
			if k.next == u {
				u.link.Close(link.Timeout)
			}
		})
	})
}

// failed plans another attempt.
func (k *keeper) failed(took time.Duration, err error) {
	k.c.cfg.Log.Debug("relay not reached", "relay", k.c.cfg.Dialer.Relay, "error", err)
	if k.up == nil {
		k.c.publish(nil, err)
		if k.hopeless(err) {
			k.fatal = err
			return
		}
	}
	k.far = errors.Is(err, os.ErrDeadlineExceeded)
	now := time.Now()
	pause := k.redial.next(now, took, k.waiting())
	var denied *keyauth.DeniedError
	if errors.As(err, &denied) {
		pause = max(pause, min(denied.RetryAfter, maxComeBack))
	}
	k.at = now.Add(pause)
	if least := k.last.Add(waitingPause * 3 / 4); k.at.Before(least) { // of two attempts the older one failed
		k.at = least
	}
}

// hopeless reports whether no retry mends err. Nothing is, while a session waits:
// somebody may be in between for an hour, or rewrite a file. Once there was a link,
// only a relay with another key is given up.
func (k *keeper) hopeless(err error) bool {
	var key *transport.RelayKeyError
	switch {
	case k.c.owner.live.Load() > 0, k.c.waiting.Load() > 0:
		return false
	case k.everUp:
		return errors.As(err, &key)
	}
	return final(err)
}

// promote lets sessions use the next link, and ends the one before.
func (k *keeper) promote() {
	old, u, reason := k.up, k.next, k.why
	if reason == "" {
		reason = link.MaxAge
	}
	k.up, k.next, k.why, k.aged = u, nil, "", false
	if u.conn.Ticket.Valid() { // it lives as long as this link
		k.ticket = u.conn.Ticket
	}
	k.everUp, u.wasUp = true, true
	k.quiet, k.quietTil, k.redial, k.at = 0, time.Time{}, redial{}, time.Time{}
	k.dropAttempts()
	k.c.publish(u, nil)
	k.c.cfg.Log.Debug("link up", "relay", k.c.cfg.Dialer.Relay)
	if f := k.c.cfg.Trace.LinkUp; f != nil {
		f(u.conn)
	}
	k.startAge(u)
	if old != nil {
		old.link.Close(reason)
	}
}

// dropAttempts ends what is under way.
func (k *keeper) dropAttempts() {
	for _, a := range k.attempts {
		a.dropped = true
		a.cancel()
	}
	k.attempts = nil
}

// startAge wants another link when u is as old as it may get.
func (k *keeper) startAge(u *uplink) {
	if k.age != nil {
		k.age.Stop()
	}
	most := k.c.tuned.Load().MaxAge
	if most <= 0 {
		return
	}
	most -= rand.N(most/10 + 1) // so that ten thousand proxies do not come together
	k.age = time.AfterFunc(most, func() {
		k.tell(func() {
			if k.up == u {
				k.aged = true
				k.dial()
			}
		})
	})
}

// lost takes the end of a link.
func (k *keeper) lost(u *uplink, err error) {
	k.links--
	var e *link.LostError
	if errors.As(err, &e) && u.wasUp {
		k.c.cfg.Log.Debug("link lost", "relay", k.c.cfg.Dialer.Relay, "error", err)
		k.c.remember(u, e)
		if f := k.c.cfg.Trace.Link.Lost; f != nil {
			f(e)
		}
		if f := k.c.cfg.Trace.LinkLost; f != nil {
			f(e)
		}
	}
	switch {
	case u == k.next:
		k.next = nil
		k.failed(time.Since(u.since), err)
	case u != k.up: // was replaced
	default:
		k.down(u)
	}
}

// down plans what follows the loss, or the farewell, of the link in use.
func (k *keeper) down(u *uplink) {
	k.up, k.why, k.aged = nil, "", false
	k.c.publish(nil, nil)
	if k.next != nil {
		k.promote()
		return
	}
	now := time.Now()
	k.at = now
	if now.Sub(u.since) < youngLink { // it died as soon as it lived
		k.at = now.Add(rand.N(youngPause))
	}
	if after := min(u.link.ComeBack(), maxComeBack); after > 0 {
		k.notYet = now.Add(after)
	}
}

// away takes the relay's GOAWAY: nothing new goes over this link, and what it
// carries stays until the relay closes it.
func (k *keeper) away(u *uplink) {
	switch {
	case k.ctx.Err() != nil:
	case u == k.next:
		u.link.Close(link.Shutdown)
	case u == k.up:
		k.down(u)
	}
}

// proven takes the first answered beat of a link.
func (k *keeper) proven(u *uplink) {
	if u != k.next {
		return
	}
	if k.suspecting() && k.up.link.Received() != k.heard {
		k.falseAlarm()
		return
	}
	k.promote()
}

// doubted takes a link's suspicion that its peer is lost.
func (k *keeper) doubted(u *uplink, reason link.Reason) {
	switch {
	case u == k.next:
		u.link.Close(link.Timeout)
	case u != k.up:
	case time.Since(k.noticed) < 2*probeTime:
		k.suspect(link.NetworkChanged)
	case time.Now().After(k.quietTil):
		k.suspect(reason)
	}
}

// suspect looks for another link beside the one that may be lost.
func (k *keeper) suspect(reason link.Reason) {
	if k.suspecting() {
		return
	}
	k.c.cfg.Log.Debug("link suspected", "relay", k.c.cfg.Dialer.Relay, "reason", reason)
	k.why, k.heard = reason, k.up.link.Received()
	k.dial()
}

// falseAlarm ends a suspicion: the link has received something. For a while
// nobody listens to the next.
func (k *keeper) falseAlarm() {
	if k.why != link.NetworkChanged {
		k.quiet = min(max(quietTimeouts*k.c.tuned.Load().Heartbeat.WithDefaults().Timeout, 2*k.quiet), maxQuiet)
		k.quietTil = time.Now().Add(k.quiet)
	}
	k.c.cfg.Log.Debug("link lives after all", "relay", k.c.cfg.Dialer.Relay, "quiet", k.quiet)
	k.why, k.at = "", time.Time{}
	k.dropAttempts()
	if k.aged {
		k.at = time.Now().Add(shortPause)
	}
	if u := k.next; u != nil {
		k.next = nil
		u.link.Close(link.Shutdown)
	}
}

// notice takes the news that the computer woke up or its network changed: what
// was hopeless may be possible now, and what was good may be gone.
func (k *keeper) notice(e notice.Event) {
	k.c.cfg.Log.Debug("notice", "event", e.String())
	k.noticed, k.redial, k.quietTil = time.Now(), redial{}, time.Time{}
	if k.up != nil && !k.suspecting() {
		if u := k.up; u.stranded(k.addrs) {
			k.suspect(link.NetworkChanged)
		} else {
			u.link.Probe(probeTime)
		}
		return
	}
	if room := k.room(); len(k.attempts) > 0 && len(k.attempts) >= room && room > 0 {
		oldest := k.attempts[0] // it asks a network that is not there any more
		oldest.dropped = true
		oldest.cancel()
		k.attempts = k.attempts[1:]
	}
	k.dial()
}

// hurry is for a session that wants a link: patient ones have lost theirs, and the
// schedule is made for them.
func (k *keeper) hurry(patient bool) {
	if k.up != nil || len(k.attempts) >= k.room() {
		return
	}
	now := time.Now()
	if patient && !k.redial.since.IsZero() && now.Sub(k.redial.since) >= waitingTime {
		return
	}
	soon := k.last.Add(waitingPause)
	if soon.Before(now) {
		soon = now
	}
	if k.at.IsZero() || soon.Before(k.at) {
		k.at = soon
	}
}
