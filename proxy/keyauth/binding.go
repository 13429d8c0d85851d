package keyauth

// What both ends agree on before anything is signed (docs/protocol.md).
const (
	// ExporterLabel is the label of the TLS exporter (RFC 8446 §7.5) that
	// Binding.Exporter comes from.
	ExporterLabel = "EXPORTER-sshka-proxy-auth-v1"
	// Namespace is the SSHSIG namespace of a proof. It keeps a signature made
	// here from being taken for one of a file, a commit or an ssh login.
	Namespace = "link@sshka-proxy"
)

// role is the first part of everything that a proxy proves. A relay, should it
// ever sign, will use another one.
const role = "client\x00"

// Binding names one TLS connection and the relay at its end.
type Binding struct {
	// Exporter is 32 bytes of the connection's exporter, with ExporterLabel and
	// Relay as the context. Both ends compute the same, every connection
	// another.
	Exporter [32]byte
	// Relay is the SHA-256 of the relay's SubjectPublicKeyInfo.
	Relay [32]byte
}

// message is what a proof signs. Relay is in it already, as the context of the
// exporter.
func (b Binding) message() []byte {
	return append([]byte(role), b.Exporter[:]...)
}
