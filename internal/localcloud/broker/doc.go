// Package broker emulates a Key Broker Service of the Confidential Containers
// project: challenge, attestation and resources in JWE. The protocol is
// confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md and
// kbs.yaml at commit 78962cd of 2026-08-21, version 0.4.0; where they leave room,
// it does what that commit's implementation does.
//
// Life of a resource: its owner posts it with the administrator's token, and the
// operator admits the guests of a container policy to it. A guest begins a
// session and is given a nonce; it shows evidence over the nonce and its key,
// which Service verifies against the simulated platform's root and its one good
// measurement; a token then stands for what was found. A request for the
// resource with that session, or with the token, is held against the
// admissions, and the resource is encrypted to the guest's key.
//
// One thing is not as in the real service: its resource policy is one Rego text,
// set over HTTP; here it is a list of admitted host data, set by the operator
// over the admin socket, and empty at first.
package broker
