// Package governance is who said yes, and what was done.
//
// Life of a run: the runtime opens a RunLog and calls Begin with the Trust that
// its measured specification gives. Begin asks which contract version is the
// newest, binds that and a fresh audit key to the enclave's evidence, and shows it
// to the ledger, which then lets the key's holder read (Introduce). It follows the
// log from its first entry to a checkpoint signed by the ledger's key (View),
// folding every statement into a State, and goes on only with a contract that is
// accepted by exactly the parties of the specification, and that its evidence is
// bound to. Run-begin goes into the log before the run's first other statement, in
// one append with it. Before each step the gate calls Record: it
// appends signed statements, each naming the one before, in one append, follows
// the log to the one checkpoint that covers them, and returns nil only when all
// are there and the fold up to there allows the step. The fold judges them one
// after the other, and the first that it refuses ends the append.
//
// The fold is the law, and the same everywhere: the ledger asks State.Check
// before it appends, parties and auditors fold what they read. So nobody needs
// to believe the ledger about the contract, only, as long as no witnesses
// cosign its checkpoints, about there being nothing newer.
package governance
