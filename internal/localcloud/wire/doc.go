// Package wire holds what every emulated service stands on: certificates and
// keys that outlive the process, the clock and faults of one service, the
// request log, and signed tokens.
//
// Life of a request: a listener of package localcloud accepts it under a
// certificate of the CA made here; Server.Wrap notes the time, waits or fails as
// its fault says, and calls the service; the service answers with WriteJSON or
// an error in its own form and names its caller with SetCaller; Wrap appends one
// line to the log. Nothing here knows what a service does.
//
// Everything made here says in its own words that it is simulated.
package wire

// Simulated is the organisation in every certificate whose subject is free, and
// the word that tells these services from the real ones.
const Simulated = "Cloister simulated platform — not AMD, not Microsoft"

// SimulatedClaim is a claim with the value "true" in every token these services
// issue, and a header in every answer they give.
const SimulatedClaim = "x-cloister-simulated"
