// Package framework asks the confidential platform's own enforcement framework
// what it would admit, before anything is deployed.
//
// Life of a question: New compiles a container policy together with one
// generation of the framework, the very Rego that runs in the utility VM, in
// OPA. Start plays what the host would ask of it to start a container: mount
// each layer, mount the overlay, create the container; the answer says where it
// was refused and why, or what was let in. Try does that for every container of
// a policy and for mutations of each that must all be refused.
//
// The framework's Rego is not in this source. `make frameworks` copies it from
// the platform vendor's Go module, hcsshim, in the versions that go.mod here and
// in policy/enforcer pins, for the compiler to embed; that a module's checksum
// is in go.sum makes it the same everywhere. Without that step the program
// builds, and says so when it is asked.
//
// What this cannot show, the vendor's enforcer in Go can: package enforcer's
// tests hold the same requests against it.
package framework
