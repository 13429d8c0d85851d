package proxy

// Version is the version of both programs. A release build sets it with
// -ldflags "-X github.com/sshka/sshka-proxy/proxy.Version=…".
var Version = "0.1.0-dev"
