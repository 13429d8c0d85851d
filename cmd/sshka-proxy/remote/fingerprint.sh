# shellcheck shell=sh
# The name of the running relay's key.
: "${place:?}" "${config:?}"
print=$(relay "$place" "$config" fingerprint 2>/dev/null) || failed "sshka-relay fingerprint does not work"
say fingerprint "$print"
