package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sshka/sshka-proxy/proxy/systemd"
)

// signals are what a running relay is told. They are caught from the start, so
// that none is the end of it that should not be.
type signals struct {
	end    chan os.Signal // SIGTERM, SIGINT
	reload chan os.Signal // SIGHUP
}

func listenToSignals() *signals {
	s := &signals{end: make(chan os.Signal, 2), reload: make(chan os.Signal, 1)}
	signal.Notify(s.end, os.Interrupt, syscall.SIGTERM)
	signal.Notify(s.reload, syscall.SIGHUP)
	return s
}

// close lets signals do what they do to any program.
func (s *signals) close() {
	signal.Stop(s.end)
	signal.Stop(s.reload)
}

// drainStep is how often systemd is asked to wait on while a relay drains, and
// drainPatience for how long then.
const (
	drainStep     = 10 * time.Second
	drainPatience = 30 * time.Second
)

// obey does what it is told until the relay has to end, and calls end.
func (s *server) obey(ctx context.Context, end func(), told *signals) {
	defer end()
	if s.relay.Alive(ctx) != nil { // it accepts links now
		return
	}
	systemd.Ready(s.summary())
	for {
		select {
		case <-told.reload:
			s.reload(ctx)
		case <-told.end:
			if s.file.Relay.Drain > 0 {
				s.drain(ctx, told)
			}
			systemd.Stopping("stopping")
			told.close() // one more ends the process as ever
			return
		case <-ctx.Done():
			return
		}
	}
}

// drain waits until no session is left, for relay.drain at most, or for another
// signal.
func (s *server) drain(ctx context.Context, told *signals) {
	most := time.Duration(s.file.Relay.Drain)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	done := make(chan int, 1)
	began := time.Now()
	counts := make(chan int, 1) // the newest one
	go func() {
		done <- s.relay.Drain(ctx, func(left int) {
			select {
			case <-counts:
			default:
			}
			counts <- left
		})
	}()
	systemd.Stopping("draining")
	systemd.Extend(drainPatience)
	step := time.NewTicker(drainStep)
	defer step.Stop()
	for {
		select {
		case left := <-counts:
			s.log.Info("draining", "sessions", left, "at_most", (most - time.Since(began)).Round(time.Second).String())
			systemd.Status(drainingStatus(left))
		case <-step.C:
			systemd.Extend(drainPatience)
		case <-told.reload:
			s.log.Warn("not reloaded: the relay is draining")
		case sig := <-told.end:
			s.log.Info("told to end at once", "signal", sig.String())
			cancel()
			<-done
			return
		case left := <-done:
			if left > 0 {
				s.log.Warn("drained for as long as relay.drain says", "sessions", left)
			} else {
				s.log.Info("drained")
			}
			return
		}
	}
}
