package governance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"cloister/governance/statement"
	"cloister/internal/fault"
)

// RunLog is a Log that a run can be let in to: before the log holds the run's
// beginning, its ledger knows the run by nothing but its evidence.
type RunLog interface {
	Log
	// Contract returns the digest of the contract's newest version, "" where
	// nothing is proposed, by the ledger's word alone: it is what a run's evidence
	// is bound to, before the run has read anything.
	Contract(ctx context.Context) (string, error)
	// Introduce shows the ledger the evidence of a run that is to begin. Once it
	// returns nil, what is read is read in the name of the run's key.
	Introduce(ctx context.Context, begin *statement.RunBegin, key statement.Signer) error
}

// Introduction is a run that a ledger knows and that has not begun.
type Introduction struct {
	replica uint64 // which of the contract\'s it is going to be; Begin knows
	key     *statement.PrivateKey
	id      string
	digest  string // of the contract version that the evidence is bound to
	begin   body
	hash    string // of the evidence
}

// Introduce makes an audit key that lives in memory only, has attest bind it to
// the contract version that the ledger says is the newest, and shows the ledger
// the evidence. Nothing is appended. What a ledger says that is not so comes out
// when its log is read: then there is no run.
func Introduce(ctx context.Context, log RunLog, attest Attest) (*Introduction, error) {
	digest, err := log.Contract(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking which contract is the newest: %w", err)
	}
	if digest == "" {
		return nil, fault.Errorf(fault.Refused, "propose a contract and have all parties approve it", "the contract is %s, not accepted", Draft)
	}
	key, err := statement.GenerateKey(statement.Ed25519)
	if err != nil {
		return nil, fmt.Errorf("making the audit key: %w", err)
	}
	i := &Introduction{key: key, digest: digest}
	begin, err := i.bind(ctx, attest)
	if err == nil {
		err = log.Introduce(ctx, begin, key)
	}
	if err != nil {
		i.Destroy()
		return nil, fmt.Errorf("introducing the run to the ledger: %w", err)
	}
	return i, nil
}

func (i *Introduction) bind(ctx context.Context, attest Attest) (*statement.RunBegin, error) {
	b := Binding{AuditKey: i.key.Public().SPKI()}
	if _, err := rand.Read(b.RunID[:]); err != nil {
		return nil, err
	}
	i.id = hex.EncodeToString(b.RunID[:])
	raw, err := hex.DecodeString(strings.TrimPrefix(i.digest, "sha256:"))
	if err != nil || len(raw) != len(b.ContractDigest) {
		return nil, fault.Errorf(fault.Refused, "do not trust this ledger", "it says that the contract's digest is %.100q", i.digest)
	}
	copy(b.ContractDigest[:], raw)
	evidence, tlsKey, err := attest(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("binding the audit key: %w", err)
	}
	if i.hash, err = evidence.Digest(); err != nil {
		return nil, err
	}
	begin := func(head statement.Run) *statement.RunBegin {
		return &statement.RunBegin{AuditKey: b.AuditKey, ContractDigest: i.digest, Evidence: evidence, Replica: i.replica, Run: head, TLSKey: tlsKey}
	}
	i.begin = func(head statement.Run) statement.Body { return begin(head) }
	return begin(statement.Run{ID: i.id}), nil
}

// Destroy makes the run unable to say or read anything more.
func (i *Introduction) Destroy() { i.key.Destroy() }

// Admit says whether the run that would begin so may read the log: it carries out
// the newest contract, which all parties approved, and judge finds its evidence to
// be of a container under that contract's policy.
func (a Agreed) Admit(begin *statement.RunBegin, judge func(*statement.RunBegin, statement.Contract) error) error {
	switch {
	case a.Status != Accepted:
		return Refuse(Unapproved, "have all parties approve it", "the contract is %s, not accepted", a.Status)
	case begin.ContractDigest != a.Digest:
		return Refuse(WrongDigest, "start the run again", "the evidence is about contract %.80s, the newest is %s", begin.ContractDigest, a.Digest)
	case judge == nil:
		return Refuse(Unapproved, "name the platform to cloister-ledger serve", "this ledger judges no evidence")
	}
	if err := judge(begin, a.Contract); err != nil {
		return Refuse(Unapproved, "run what the parties approved, where they approved it", "the run's evidence: %w", err)
	}
	return nil
}

// Agreed is the newest version of a log's contract, and where it stands.
type Agreed struct {
	Contract statement.Contract
	Digest   string // "" where nothing is proposed
	Status   Status
}

// Agreed returns where the contract stands.
func (s *State) Agreed() Agreed {
	return Agreed{Contract: s.contract, Digest: s.digest, Status: s.Status()}
}
