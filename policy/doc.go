// Package policy is the root of what was agreed: nothing here is code, only
// packages that turn an agreement into what the platform enforces.
//
// Life of an agreement: the parties write a specification (package spec) that
// names code, parties, keys and volumes; its digest goes into the command line
// that the container policy (package cce) admits; the digest of the container
// policy goes into the key release policy (package release), under which a
// vault gives a key to that container and to no other. The order has no cycle:
// each document holds the digest of the one before it and of nothing later.
package policy
