# shellcheck shell=sh
# What every script over there begins with. The variables above it come from
# init_remote.go: home, port, mode (user or system), root (yes, sudo or no); top is a
# directory in the place of / for tests.
: "${home:=$HOME}" "${top:=}" "${port:?}" "${mode:?}" "${root:=no}"
PATH=$PATH:/usr/sbin:/sbin
export PATH

say() { printf '%s %s\n' "$1" "$2"; }

# failed TEXT: why this script cannot go on.
failed() {
	say failed "$1"
	exit 1
}

# as_root COMMAND...: where that is possible without a question.
as_root() {
	if [ "$root" = sudo ]; then
		sudo -n "$@"
	else
		"$@"
	fi
}

program_at() {
	case $1 in
	home) echo "$home/.local/bin/sshka-relay" ;;
	own) echo "$home/bin/sshka-relay" ;;
	local) echo "$top/usr/local/bin/sshka-relay" ;;
	usr) echo "$top/usr/bin/sshka-relay" ;;
	esac
}

config_at() {
	case $1 in
	user) echo "$home/.config/sshka/relay.yaml" ;;
	system) echo "$top/etc/sshka/relay.yaml" ;;
	esac
}

# relay PROGRAM CONFIG COMMAND: sshka-relay COMMAND of these places. The system's relay
# answers root alone.
relay() {
	set -- "$(program_at "$1")" "$(config_at "$2")" "$2" "$3"
	if [ "$3" = system ]; then
		as_root "$1" "$4" --config "$2"
	elif [ -n "$2" ]; then
		"$1" "$4" --config "$2"
	else
		"$1" "$4"
	fi
}

listens() {
	if [ -r /proc/net/tcp ]; then
		cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
			grep -q "^ *[0-9]*: [0-9A-F]*$(printf ':%04X' "$port") [0-9A-F:]* 0A "
	else
		netstat -an 2>/dev/null | grep LISTEN | grep -q "[.:]$port "
	fi
}
