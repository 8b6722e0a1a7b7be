// Package enforcer holds what we generate against the enforcer that the
// platform's utility VM runs, the vendor's own Go code with its own OPA: a module
// of its own, since none of it belongs into ours.
//
// Life of a test: cloister's program policy/framework/cases prints the generated
// policies with the requests that must be admitted and their mutations; each is
// played against a new enforcer, device by device. Once with the version of
// hcsshim in go.mod, once with the one in earlier.mod, which hold two
// generations of the framework.
package enforcer
