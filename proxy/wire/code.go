package wire

import "fmt"

// Code tells a program why something was denied, refused or reset. The message
// beside it tells a person.
type Code uint16

// The codes. A reader treats one it does not know as CodeFailed.
const (
	CodeFailed       Code = 1  // for a reason that has no code of its own
	CodeNotAllowed   Code = 2  // policy: this key may not, or nobody may
	CodeUnknown      Code = 3  // no such session or ticket; the relay may have restarted
	CodeExpired      Code = 4  // the session's window has passed
	CodeBusy         Code = 5  // a limit is reached
	CodeSlowDown     Code = 6  // too many requests; come back after RetryAfter
	CodeShuttingDown Code = 7  // the relay is about to end
	CodeVersion      Code = 8  // no common version
	CodeProtocol     Code = 9  // the peer broke the protocol
	CodeNoSuchHost   Code = 16 // the target's name does not exist
	CodeRefused      Code = 17 // the target refused the connection
	CodeUnreachable  Code = 18 // no route to the target
	CodeTimeout      Code = 19 // the target did not answer in time
	CodeAborted      Code = 32 // the application closed with data in flight
	CodeTargetReset  Code = 33 // the target reset the connection
	CodeEvicted      Code = 34 // memory was needed for others
	CodeRevoked      Code = 35 // the key is no longer authorized
	CodeEnded        Code = 36 // the operator ended the session
)

var codeNames = map[Code]string{
	CodeFailed: "failed", CodeNotAllowed: "not allowed", CodeUnknown: "unknown", CodeExpired: "expired",
	CodeBusy: "busy", CodeSlowDown: "slow down", CodeShuttingDown: "shutting down", CodeVersion: "version",
	CodeProtocol: "protocol", CodeNoSuchHost: "no such host", CodeRefused: "refused", CodeUnreachable: "unreachable",
	CodeTimeout: "timeout", CodeAborted: "aborted", CodeTargetReset: "target reset", CodeEvicted: "evicted",
	CodeRevoked: "revoked", CodeEnded: "ended",
}

// String returns the code's name as docs/protocol.md writes it.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code %d", uint16(c))
}
