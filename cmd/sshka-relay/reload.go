package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/systemd"
)

// reloadTime bounds a reload: another authorized_keys_command is asked about
// everybody who is in.
const reloadTime = time.Minute

// reload reads the configuration once more and lets it count. One with a mistake
// changes nothing.
func (s *server) reload(ctx context.Context) {
	systemd.Reloading()
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	if err := s.apply(ctx); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			s.log.Error("configuration refused, the old one goes on", "problem", line)
		}
		systemd.Ready("the last reload was refused, see the log; " + s.summary())
		return
	}
	s.log.Info("configuration reloaded", "file", s.file.Name())
	if s.given && slices.Contains(config.Changes("relay", s.started, s.file), "relay.listen") {
		s.log.Warn("relay.listen is not used: systemd gives the sockets")
	}
	if keys := s.needRestart(); len(keys) > 0 {
		s.log.Warn("not all of the configuration counts yet", "problem", "needs a restart: "+strings.Join(keys, ", "))
	}
	systemd.Ready(s.summary())
}

// apply lets the configuration of now count, or nothing of it. Everything that may
// fail stands before what changes something.
func (s *server) apply(ctx context.Context) error {
	file, places, err := s.flags.load()
	if err != nil {
		return err
	}
	keys := s.keys
	if !keys.same(file, places) {
		if err := nobody(file, places); err != nil {
			return err
		}
		if keys, err = newAuthority(file, places, s.report); err != nil {
			return err
		}
	}
	all, opened := s.inlets, []inlet(nil)
	if !s.given {
		all, opened, err = s.listen(ctx, file)
	}
	if err == nil {
		err = s.reconfigure(ctx, file, keys)
	}
	if err != nil {
		closeAll(opened)
		if keys != s.keys {
			keys.close()
		}
		return err
	}
	if keys != s.keys {
		s.setKeys(keys)
	}
	return s.relisten(all, opened, places)
}

// reconfigure hands the settings to the relay.
func (s *server) reconfigure(ctx context.Context, file *config.File, keys *authority) error {
	cfg, err := file.Server(agent(), s.key, keys.list, s.own.list)
	if err != nil {
		return err
	}
	if err := s.relay.Reconfigure(ctx, cfg); err != nil {
		return err
	}
	s.file = file
	s.level.Set(s.flags.level(file))
	s.numbers.SetHeartbeat(cfg.Heartbeat)
	return nil
}

// relisten accepts on all, and no longer on what is not among them.
func (s *server) relisten(all, opened []inlet, places config.Places) error {
	old := s.inlets
	s.know(append(slices.Clone(old), opened...)) // no targets while any of them is open
	err := s.relay.Relisten(listenersOf(all)...)
	s.inlets = all
	s.know(all)
	for _, in := range opened {
		s.announce(in, places.AuthorizedKeys)
	}
	for _, in := range old {
		if !slices.Contains(all, in) {
			s.log.Info("no longer listening", "address", in.Addr().String())
		}
	}
	return err
}

// live are the keys, and the sections, that count as soon as they are read. All
// others do from the start of a relay to its end.
var live = []string{
	"relay.listen", "relay.authorized_keys", "relay.authorized_keys_command", "relay.allow", "relay.deny",
	"relay.target_keepalive", "relay.heartbeat.", "relay.session.", "relay.limits.", "relay.drain", "relay.log.level",
}

// needRestart names the keys that have changed since the start and do not count
// yet.
func (s *server) needRestart() []string {
	return slices.DeleteFunc(config.Changes("relay", s.started, s.file), func(key string) bool {
		return slices.ContainsFunc(live, func(l string) bool { return key == l || strings.HasSuffix(l, ".") && strings.HasPrefix(key, l) })
	})
}
