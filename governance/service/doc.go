// Package service serves contracts' logs over HTTP: what cloister-ledger is made
// of. openapi.json is its interface.
//
// Life of a request: the limiter counts it against its address; the log that its
// path begins with is looked up. A checkpoint, the log's key, the digest of its
// newest contract and the health of the server are for everybody. Tiles and entry
// bundles are for whom the log is about: the request's signature (remote.Sign) is
// checked, a request that was made before is refused, and the key must be a party's
// of the newest contract, a run's audit key, or, before there is a contract, one
// that the operator made the log for. A run that has not begun introduces itself:
// it posts its evidence, which must bind the key that signs the request and the
// accepted contract, and be of a container under that contract's policy. A browser,
// which has no such key, sends a read token instead (remote.ReadToken) from the
// page that is served beside the log (package page). Statements that are posted carry their own
// signatures, which the fold judges; the answer waits for the checkpoint that
// covers them. Whatever goes wrong is answered as a problem (RFC 9457) with the
// fold's reason, and nothing is appended.
package service
