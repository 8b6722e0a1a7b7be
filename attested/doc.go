// Package attested speaks TLS with a clean room, and with nothing else: it
// knows what it talks to before it sends a byte.
//
// Life of a connection: Client.DialContext connects and makes a TLS 1.3
// handshake, never a resumed one, in which the certificate's evidence is judged:
// the report is signed by a genuine processor, of a container under the
// contract's container policy, and about exactly this key, run, and contract.
// Then it sends a nonce, and the enclave signs it together with what only this
// connection's two ends know. So a report that is somebody else's, an answer that
// is an old one's and a server that passes everything on are refused, and the
// caller gets the connection. Transport does it for net/http.
//
// PROTOCOL.md beside this file has the bytes.
package attested
