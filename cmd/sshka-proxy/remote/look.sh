# shellcheck shell=sh
# What there is. Changes nothing.
: "${port:?}" "${home:?}" "${top=}"
root=no
if [ "$(id -u)" = 0 ]; then
	root=yes
elif sudo -n true 2>/dev/null; then
	root=sudo
fi
say os "$(uname -s)"
say arch "$(uname -m)"
say user "$(id -un)"
say home "$home"
say root "$root"
# The address and port of the sshd that serves us, as this host has them.
say sshd "$(printf '%s\n' "${SSH_CONNECTION:-}" | cut -d ' ' -f 3,4)"
if [ -d "$top/run/systemd/system" ]; then
	say systemd yes
	: "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"
	export XDG_RUNTIME_DIR
	systemctl --user show-environment >/dev/null 2>&1 && say manager yes
fi
listens && say listens yes
for p in home own local usr; do
	[ -x "$(program_at "$p")" ] || continue
	say program "$p $("$(program_at "$p")" --version 2>/dev/null)"
	for c in user system none; do
		if [ "$c" != none ] && ! [ -e "$(config_at "$c")" ]; then
			continue
		fi
		if relay "$p" "$c" status >/dev/null 2>&1; then
			say runs "$p $c"
			break
		fi
	done
done
exit 0
