// Package proof is what the two ends of attested TLS say to each other, as
// ../PROTOCOL.md defines it: the evidence in the enclave's certificate, and the
// signature that the enclave makes after the handshake.
//
// Life of a proof: the runtime makes a key and has it bound into its identity
// report; Certificate wraps key and evidence into a certificate. A client that
// offered ALPN in its handshake sends a nonce (Ask); the enclave signs it with
// the connection's exporter, the contract's digest and its newest checkpoint
// (Answer); Ask returns what came, and Statement.Verify says whether the key of
// the certificate signed exactly that. Whether the evidence is good is
// cloister/attested's to say.
package proof

// ALPN is what a client offers that wants the exchange. Without it a connection
// is ordinary TLS to the same key, and nothing is proven to it.
const ALPN = "cloister-attested/1"
