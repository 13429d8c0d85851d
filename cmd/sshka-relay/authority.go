package main

import (
	"fmt"
	"os/user"
	"slices"

	"github.com/sshka/sshka-proxy/proxy/config"
	"github.com/sshka/sshka-proxy/proxy/keyauth"
)

// authority knows who may use the relay.
type authority struct {
	list  keyauth.Authorizer
	file  string
	argv  []string
	close func() // of the command's runs; may be called again
}

// newAuthority returns what the configuration says. The caller closes it.
func newAuthority(file *config.File, places config.Places, report func(keyauth.Problem)) (*authority, error) {
	account, err := accountOf(places)
	if err != nil {
		return nil, err
	}
	list := keyauth.NewAuthorizedKeys(places.AuthorizedKeys, account, report)
	a := &authority{list: list, file: places.AuthorizedKeys, argv: file.Relay.AuthorizedKeysCommand, close: func() {}}
	if len(a.argv) == 0 {
		return a, nil
	}
	command, err := keyauth.NewCommand(a.argv, account, report)
	if err != nil {
		return nil, file.Errorf("relay.authorized_keys_command", "%w", err)
	}
	a.list, a.close = keyauth.KeyLists{File: list, Command: command}, command.Close
	return a, nil
}

// same reports whether a is what this configuration says, too.
func (a *authority) same(file *config.File, places config.Places) bool {
	return a.file == places.AuthorizedKeys && slices.Equal(a.argv, file.Relay.AuthorizedKeysCommand)
}

// nobody complains about another list that lets nobody in: with it a running relay
// would turn everybody out.
func nobody(file *config.File, places config.Places) error {
	account, err := accountOf(places)
	if err != nil {
		return err
	}
	if argv := file.Relay.AuthorizedKeysCommand; len(argv) > 0 {
		if err := keyauth.CheckProgram(argv[0]); err != nil {
			return file.Errorf("relay.authorized_keys_command", "authorizes nobody: %w", err)
		}
		return nil
	}
	if n, _ := keyauth.Check(places.AuthorizedKeys, account); n == 0 {
		return file.Errorf("relay.authorized_keys", "%s authorizes nobody; sshka-relay check says why", places.AuthorizedKeys)
	}
	return nil
}

// accountOf is the account that certificates for this relay name, where it is one
// user's. A system's relay has none.
func accountOf(places config.Places) (string, error) {
	if places.System {
		return "", nil
	}
	me, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find out whose relay this is: %w", err)
	}
	return me.Username, nil
}

// report logs what is wrong with a list of keys.
func (s *server) report(p keyauth.Problem) { s.log.Warn("authorized_keys", "problem", p.String()) }

// closeKeys ends what asks about keys.
func (s *server) closeKeys() {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.keys.close()
	if s.retired != nil {
		s.retired.close()
	}
}

// setKeys replaces the list of keys. The one before may still have to answer, the
// one before that has.
func (s *server) setKeys(a *authority) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	if s.retired != nil {
		s.retired.close()
	}
	s.keys, s.retired = a, s.keys
}
