package inbound

import "golang.org/x/sys/windows"

// What a connect says, by meaning, in the codes of Windows' sockets.
var (
	refusedErrnos     = []error{windows.WSAECONNREFUSED}
	unreachableErrnos = []error{windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAENETDOWN, windows.WSAEHOSTDOWN}
)
