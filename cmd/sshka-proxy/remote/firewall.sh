# shellcheck shell=sh
# What may keep others from the relay's port. Reads only.
: "${port:?}"
listens && say listens yes
if as_root ufw status 2>/dev/null | grep -q '^Status: active' || grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then
	say firewall ufw
elif firewall-cmd --state 2>/dev/null | grep -q '^running' || systemctl is-active --quiet firewalld 2>/dev/null; then
	say firewall firewalld
elif as_root nft list ruleset 2>/dev/null | grep -Eq '(drop|reject)'; then
	say firewall nftables
elif as_root iptables -S 2>/dev/null | grep -Eq '(DROP|REJECT)'; then
	say firewall iptables
fi
exit 0
