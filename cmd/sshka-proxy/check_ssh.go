package main

import (
	"context"
	"io"
	"path"
	"runtime"
	"strings"

	"github.com/spf13/pflag"
)

// sshAnswer is what ssh would do for a host, by its configuration.
type sshAnswer struct {
	options map[string]string
	err     error       // errNoSSH without an ssh
	own     *ownCommand // nil: its ProxyCommand is not this program
}

// askSSH asks ssh, once.
func (c *checker) askSSH(ctx context.Context, host, port string) *sshAnswer {
	if c.answer == nil {
		c.begin(layerSSH, "reading its configuration for "+host)
		a := &sshAnswer{}
		if a.options, a.err = c.sshConfig(ctx, host); a.err == nil {
			a.own = ownCommandOf(a.options, host, port)
		}
		c.end()
		c.answer = a
	}
	return c.answer
}

// target returns the host and port that ssh would have this program reach. A port
// that a person has named stands.
func (a *sshAnswer) target(host, port string) (string, string) {
	if a.own != nil {
		return a.own.host, a.own.port
	}
	return asSSH(a.options, host, port)
}

// ownCommand is a ProxyCommand that runs this program. What ssh asks of it is what
// there is to look at: the relay's own host is `localhost` there, for instance.
type ownCommand struct {
	flags      flags
	host, port string
}

// ownCommandOf reads the ProxyCommand of what ssh -G says of a host. It is nil where
// that is another program, or is written so that only a shell understands it.
func ownCommandOf(options map[string]string, name, port string) *ownCommand {
	words, ok := shellWords(options["proxycommand"], runtime.GOOS == "windows")
	if ok && len(words) > 0 && words[0] == "exec" {
		words = words[1:]
	}
	if !ok || len(words) == 0 {
		return nil
	}
	program := path.Base(strings.ReplaceAll(words[0], `\`, "/"))
	if strings.TrimSuffix(strings.ToLower(program), ".exe") != "sshka-proxy" {
		return nil
	}
	host, port := asSSH(options, name, port)
	expand := strings.NewReplacer("%%", "%", "%h", host, "%p", port, "%n", name, "%r", options["user"])
	for i := range words {
		words[i] = expand.Replace(words[i])
	}
	o := &ownCommand{}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.SetOutput(io.Discard)
	o.flags.define(fs)
	o.flags.defineOwn(fs)
	if fs.Parse(words[1:]) != nil || fs.NArg() != 2 || !isPort(fs.Arg(1)) {
		return nil
	}
	o.flags.changed(fs)
	o.host, o.port = fs.Arg(0), fs.Arg(1)
	return o
}

// under is f with what the ProxyCommand says where f says nothing.
func (o *ownCommand) under(f flags) flags {
	if f.relay == "" {
		f.relay = o.flags.relay
	}
	if f.config == "" {
		f.config = o.flags.config
	}
	if f.interval == intervalUnset {
		f.interval = o.flags.interval
	}
	return f
}

// shellWords splits a command line at blanks, with the quotes of a shell; on Windows
// a backslash is an ordinary character. It is not ok where a shell would do more.
func shellWords(line string, windows bool) (words []string, ok bool) {
	var word strings.Builder
	var quote rune // that is open, or 0
	begun, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && !windows && quote != '\'':
			escaped, begun = true, true
		case r == quote && quote != 0:
			quote = 0
		case quote == 0 && (r == '"' || r == '\'' && !windows):
			quote, begun = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case quote != '\'' && strings.ContainsRune("$`", r), quote == 0 && strings.ContainsRune("|&;<>()", r):
			return nil, false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words, quote == 0 && !escaped
}
