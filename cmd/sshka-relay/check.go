package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sshka/sshka-proxy/proxy/keyauth"
	"github.com/sshka/sshka-proxy/proxy/transport"
)

// check looks at what serve will need, changes nothing, and fails when serve
// would, or when nobody could use it.
func check(f *flags, u *ui) error {
	file, places, err := f.load()
	if err != nil {
		return err
	}
	name := file.Name()
	if name == "" {
		name = "none, all defaults"
	}
	fmt.Fprintf(u.out, "configuration    %s\n", name)
	var errs []error
	switch key, err := transport.LoadRelayKey(places.Key); {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(u.out, "relay key        %s (none yet, serve makes it)\n", places.Key)
	case err != nil:
		errs = append(errs, err)
	default:
		fmt.Fprintf(u.out, "relay key        %s %s\n", places.Key, key.Fingerprint)
	}
	account, err := accountOf(places)
	if err != nil {
		errs = append(errs, err)
	}
	keys, problems := keyauth.Check(places.AuthorizedKeys, account)
	fmt.Fprintf(u.out, "authorized keys  %s (%d accepted)\n", places.AuthorizedKeys, keys)
	for _, p := range problems {
		errs = append(errs, errors.New(p.String()))
	}
	argv := file.Relay.AuthorizedKeysCommand
	if len(argv) > 0 {
		fmt.Fprintf(u.out, "and the command  %s\n", strings.Join(argv, " "))
		if err := keyauth.CheckProgram(argv[0]); err != nil {
			errs = append(errs, file.Errorf("relay.authorized_keys_command", "authorizes nobody: %w", err))
		}
	}
	if keys == 0 && len(argv) == 0 {
		errs = append(errs, fmt.Errorf("nobody can use this relay: put the line of a user's .pub file into %s", places.AuthorizedKeys))
	}
	for _, a := range file.Relay.Listen {
		fmt.Fprintf(u.out, "listen           %s\n", a)
	}
	for _, a := range file.Relay.Allow {
		fmt.Fprintf(u.out, "allow            %s\n", a)
	}
	for _, a := range file.Relay.Deny {
		fmt.Fprintf(u.out, "deny             %s\n", a)
	}
	return errors.Join(errs...)
}
