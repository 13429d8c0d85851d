# shellcheck shell=sh
# The relay runs, and stays as far as this system allows.
: "${unit:?}" "${place:?}" "${mode:?}" "${manager:?}" "${home:?}" "${top=}" "${root=no}"

# wait_for_it LAST: until it answers; LAST is what tells its last words.
wait_for_it() {
	n=0
	until relay "$place" "$mode" status >/dev/null 2>&1; do
		n=$((n + 1))
		[ "$n" -le 50 ] || failed "the relay does not run: $("$1" 2>/dev/null | tail -n 1)"
		sleep 0.2 2>/dev/null || sleep 1
	done
}

# install_unit FILE: where there is none.
install_unit() {
	umask 022
	mkdir -p "${1%/*}" || failed "cannot make ${1%/*}"
	if [ -e "$1" ]; then
		say unit kept
		return
	fi
	if ! printf '%s' "$unit" >"$1.$$" || ! mv -f "$1.$$" "$1"; then
		failed "cannot write $1"
	fi
	say unit written
}

# switch_on SYSTEMCTL...: reads the units anew and starts ours.
switch_on() {
	why=$("$@" daemon-reload 2>&1) || failed "$*: daemon-reload: $why"
	why=$("$@" enable --now sshka-relay.service 2>&1) || failed "$* enable --now sshka-relay: $why"
}

# lingers: the user's units run without a login, if need be by what sudo may do.
lingers() {
	me=$(id -un)
	[ -e "$top/var/lib/systemd/linger/$me" ] && return
	loginctl enable-linger >/dev/null 2>&1 </dev/null && return
	[ "$root" != no ] && as_root loginctl enable-linger "$me" >/dev/null 2>&1 </dev/null && say by_sudo yes
}

# outlives_login: what a login leaves behind goes on (logind.conf(5), KillUserProcesses=).
outlives_login() {
	[ "$(busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)" = "b false" ]
}

of_user() { journalctl --user -u sshka-relay -n 1 -o cat; }
of_system() { journalctl -u sshka-relay -n 1 -o cat; }
of_log() { cat "$log"; }

# alone: as a process without a service manager.
alone() {
	umask 077
	log=$home/.local/state/sshka/relay.log
	mkdir -p "${log%/*}" || failed "cannot make ${log%/*}"
	cd "$home" || failed "cannot enter $home"
	if command -v setsid >/dev/null 2>&1; then
		setsid nohup "$(program_at "$place")" serve --config "$(config_at "$mode")" >"$log" 2>&1 </dev/null &
	else
		nohup "$(program_at "$place")" serve --config "$(config_at "$mode")" >"$log" 2>&1 </dev/null &
	fi
	wait_for_it of_log
	say stays "until reboot"
}

case $manager in
system)
	install_unit "$top/etc/systemd/system/sshka-relay.service"
	switch_on systemctl
	wait_for_it of_system
	say stays yes
	;;
user)
	: "${XDG_RUNTIME_DIR:=/run/user/$(id -u)}"
	export XDG_RUNTIME_DIR
	install_unit "$home/.config/systemd/user/sshka-relay.service"
	stays="until logout"
	if lingers; then
		stays=yes
	elif outlives_login; then
		alone # the unit would end with this login
		exit
	fi
	switch_on systemctl --user
	wait_for_it of_user
	say stays "$stays"
	;;
none)
	alone
	;;
esac
