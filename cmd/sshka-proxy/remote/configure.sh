# shellcheck shell=sh
# The relay's configuration, where there is none: a file appears whole or not at all.
: "${text:?}" "${place:?}" "${mode:?}" "${home:?}" "${top=}"

# new FILE MODE: standard input becomes FILE, unless there is one.
new() {
	if [ -e "$1" ]; then
		return 0
	fi
	t=$1.$$
	cat >"$t" && chmod "$2" "$t" && ln "$t" "$1"
	made=$?
	rm -f "$t"
	return "$made"
}

config=$(config_at "$mode")
said=written
[ -e "$config" ] && said=kept
if [ "$mode" = system ]; then
	umask 022
	mkdir -p "$top/etc/sshka" || failed "cannot make $top/etc/sshka"
	printf '%s' "$text" | new "$config" 644 || failed "cannot write $config"
	keys=$top/etc/sshka/authorized_keys
	if ! [ -e "$keys" ]; then
		[ -s "$home/.ssh/authorized_keys" ] || failed "there is no $home/.ssh/authorized_keys to copy: put the lines of those who may use the relay into $keys"
		new "$keys" 644 <"$home/.ssh/authorized_keys" || failed "cannot write $keys"
	fi
else
	umask 077
	mkdir -p "$home/.config/sshka" || failed "cannot make $home/.config/sshka"
	printf '%s' "$text" | new "$config" 600 || failed "cannot write $config"
fi
if ! why=$(relay "$place" "$mode" check 2>&1 >/dev/null); then
	failed "sshka-relay check: $(printf '%s\n' "$why" | sed -n '1s/^sshka-relay: //p')"
fi
say config "$said"
