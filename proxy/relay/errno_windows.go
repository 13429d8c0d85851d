package relay

import "golang.org/x/sys/windows"

// What a connect says, by meaning. Sockets on Windows speak WSA codes, which
// the constants of package syscall with Unix names do not match.
var (
	refusedErrnos     = []error{windows.WSAECONNREFUSED}
	unreachableErrnos = []error{windows.WSAEHOSTUNREACH, windows.WSAENETUNREACH, windows.WSAEADDRNOTAVAIL, windows.WSAENETDOWN, windows.WSAEHOSTDOWN, windows.WSAEAFNOSUPPORT}
	timeoutErrnos     = []error{windows.WSAETIMEDOUT}
	exhaustedErrnos   = []error{windows.WSAEMFILE, windows.WSAENOBUFS}
)
