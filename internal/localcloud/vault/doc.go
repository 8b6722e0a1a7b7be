// Package vault emulates Key Vault Premium and Managed HSM: keys with release
// policies, secrets, and secure key release.
//
// Life of a request: the first one of a client carries no token and is answered
// 401 with the challenge that tells it where to get one; the next is
// authenticated by the directory, matched against the table of routes, and
// carried out on the state, which is one JSON file. A release verifies the
// attestation token's signature and time, evaluates the key's release policy on
// its claims with package policy/release, and wraps the key for the RSA key that
// the token's runtime claims name; the answer is a JWS signed under the vault's
// certificate. A refusal looks like the service's, which does not say why; the
// reason is in the request log.
//
// Forms and codes follow recordings of both real services (azkeys v0.6.0 and
// azsecrets v0.10.0, testdata/recordings) and their reference documentation.
// Where neither shows a text, the code here carries one of its own.
package vault
