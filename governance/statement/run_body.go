package statement

import "encoding/base64"

// Run is the head of every statement by a run. The signer's counter is the
// record's sequence: 1 for run-begin, then one more for each.
type Run struct {
	// Checkpoint is the log's state that the run had verified when it signed.
	Checkpoint Checkpoint `json:"checkpoint"`
	// ID is 16 random bytes in hexadecimal.
	ID string `json:"id"`
	// Previous is the digest of the run's entry before this one, as EntryDigest
	// gives it; empty in run-begin alone.
	Previous string `json:"previous,omitempty"`
}

// Checkpoint is the size and RFC 6962 root hash of the log at a moment.
type Checkpoint struct {
	Root string `json:"root"` // base64 of 32 bytes, as in C2SP tlog-checkpoint
	Size uint64 `json:"size"`
}

// RunBegin opens a run: it binds the run's audit key to the evidence.
type RunBegin struct {
	// AuditKey signs the run's statements, this one included; SPKI in DER.
	AuditKey []byte `json:"auditKey"`
	// ContractDigest is the digest of the contract version that is carried out.
	ContractDigest string   `json:"contractDigest"`
	Evidence       Evidence `json:"evidence"`
	// Replica is which of the contract's replicas the run is, from 0.
	Replica uint64 `json:"replica,omitempty"`
	Run     Run    `json:"run"`
	// TLSKey is the key the run answers TLS with, SPKI in DER, if it does.
	TLSKey []byte `json:"tlsKey,omitempty"`
}

// Evidence is what the platform says of the enclave, as bytes for a verifier.
type Evidence struct {
	// Certificates are the report's certificate chain, PEM.
	Certificates []byte `json:"certificates,omitempty"`
	// Endorsement is the utility VM's COSE_Sign1, if the platform gives one.
	Endorsement []byte `json:"endorsement,omitempty"`
	// Platform names who stands behind the report, as in "sev-snp" or
	// "simulated-sev-snp".
	Platform string `json:"platform"`
	// Report is the attestation report, raw. Its REPORT_DATA is the identity
	// form of package snp over the run's id, ContractDigest, AuditKey and TLSKey
	// of the statement it stands in, so that a verifier can make it again.
	Report []byte `json:"report"`
}

// ConsentCheck asks the log for consent. Its answer is the log up to this entry.
type ConsentCheck struct {
	// Evidence is the digest of the run's evidence, as RunBegin.Evidence.Digest
	// gives it.
	Evidence string `json:"evidence"`
	// Nonce is 32 random bytes in hexadecimal: no answer to another check fits.
	Nonce string `json:"nonce"`
	Run   Run    `json:"run"`
	Scope string `json:"scope"`
	// What says for which step the run asks.
	What string `json:"what,omitempty"`
}

// What a run can access.
const (
	AccessWrappedDEK = "wrapped-dek"
	AccessKEK        = "kek"
	AccessData       = "data"
	AccessCode       = "code"
)

// RecordAccess announces an access that follows once this entry is in the log.
type RecordAccess struct {
	Detail string `json:"detail,omitempty"`
	// Name is the secret, key or volume accessed.
	Name string `json:"name"`
	Run  Run    `json:"run"`
	// Volume names the contract's volume, or is its reference.
	Volume string `json:"volume,omitempty"`
	What   string `json:"what"`
}

// Phases of an execution.
const (
	PhaseStart = "start"
	PhaseEnd   = "end"
)

// RecordExecution announces the application's start or tells of its end.
type RecordExecution struct {
	Application string `json:"application"`
	Detail      string `json:"detail,omitempty"`
	// Exit is the application's exit code, 128 plus the signal's number where a
	// signal ended it; only at the end.
	Exit *int `json:"exit,omitempty"`
	// Outputs in rising order of names; only at the end.
	Outputs []Output `json:"outputs,omitempty"`
	Phase   string   `json:"phase"`
	Run     Run      `json:"run"`
}

// Output is an output volume's state.
type Output struct {
	// Check is the volume's DEK check value in hexadecimal.
	Check     string `json:"check,omitempty"`
	Name      string `json:"name"`
	Reference string `json:"reference"`
}

// RunRefusal tells of a step that the run did not take, and why.
type RunRefusal struct {
	Reason string `json:"reason"`
	Run    Run    `json:"run"`
	Step   string `json:"step"`
}

// JournalHead pins how far an output volume has come, so that a host cannot
// show an older or empty output unnoticed.
type JournalHead struct {
	// Epoch is the one that is being written, or that the manifest is of.
	Epoch uint64 `json:"epoch"`
	Head  string `json:"head"` // digest of the record or manifest
	Run   Run    `json:"run"`
	// Sequence is the newest journal record's; 0 for the epoch's manifest.
	Sequence uint64 `json:"sequence"`
	Volume   string `json:"volume"`
}

// Completion ends a run. A run without one is incomplete.
type Completion struct {
	// Complete is false where outputs are partial or not all durable.
	Complete bool   `json:"complete"`
	Detail   string `json:"detail,omitempty"`
	Exit     int    `json:"exit"`
	// Outputs in rising order of names.
	Outputs []Output `json:"outputs,omitempty"`
	Run     Run      `json:"run"`
}

func (*RunBegin) Type() Type        { return TypeRunBegin }
func (*ConsentCheck) Type() Type    { return TypeConsentCheck }
func (*RecordAccess) Type() Type    { return TypeRecordAccess }
func (*RecordExecution) Type() Type { return TypeRecordExecution }
func (*RunRefusal) Type() Type      { return TypeRefusal }
func (*JournalHead) Type() Type     { return TypeJournalHead }
func (*Completion) Type() Type      { return TypeCompletion }

func (b *RunBegin) Header() Run        { return b.Run }
func (b *ConsentCheck) Header() Run    { return b.Run }
func (b *RecordAccess) Header() Run    { return b.Run }
func (b *RecordExecution) Header() Run { return b.Run }
func (b *RunRefusal) Header() Run      { return b.Run }
func (b *JournalHead) Header() Run     { return b.Run }
func (b *Completion) Header() Run      { return b.Run }

// Digest returns the digest of the evidence's canonical encoding.
func (e Evidence) Digest() (string, error) {
	raw, err := encode(e)
	if err != nil {
		return "", err
	}
	return Digest(append([]byte("cloister evidence v1\n"), raw...)), nil
}

func (c *checks) run(r Run, first bool) {
	c.hex("the run's id", r.ID, runIDBytes)
	c.that(r.Checkpoint.Size <= maxCounter, "a log of %d entries", r.Checkpoint.Size)
	root, err := base64.StdEncoding.DecodeString(r.Checkpoint.Root)
	c.that(err == nil && len(root) == 32 && base64.StdEncoding.EncodeToString(root) == r.Checkpoint.Root,
		"the checkpoint's root is not base64 of 32 bytes")
	if first {
		c.that(r.Previous == "", "a run's first record names a previous one")
		return
	}
	c.digest("the previous record", r.Previous)
}

func (c *checks) outputs(outputs []Output) {
	ascending(c, "outputs", outputs, maxItems, func(o Output) string { return o.Name })
	for _, o := range outputs {
		c.name("output", o.Name)
		c.required("reference", o.Reference, maxText)
		if o.Check != "" {
			c.hex("check value", o.Check, checkBytes)
		}
	}
}

func (b *RunBegin) check() error {
	c := &checks{}
	c.run(b.Run, true)
	c.digest("the contract", b.ContractDigest)
	_, err := ParsePublicKey(b.AuditKey)
	c.that(err == nil, "the audit key: %v", err)
	c.that(len(b.TLSKey) <= maxKeyBytes, "a TLS key of %d bytes", len(b.TLSKey))
	c.that(b.Replica < maxVolumes, "replica %d, want at most %d", b.Replica, maxVolumes-1)
	c.name("the platform", b.Evidence.Platform)
	c.that(len(b.Evidence.Report) > 0, "the evidence has no report")
	return c.err
}

func (b *ConsentCheck) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.digest("the evidence", b.Evidence)
	c.hex("the nonce", b.Nonce, nonceBytes)
	c.scope(b.Scope)
	c.text("the step", b.What, maxText)
	return c.err
}

func (b *RecordAccess) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.oneOf("access to", b.What, AccessWrappedDEK, AccessKEK, AccessData, AccessCode)
	c.required("the name", b.Name, maxText)
	c.text("the volume", b.Volume, maxText)
	c.text("the detail", b.Detail, maxText)
	return c.err
}

func (b *RecordExecution) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.oneOf("phase", b.Phase, PhaseStart, PhaseEnd)
	c.required("the application", b.Application, maxText)
	c.text("the detail", b.Detail, maxText)
	c.that(b.Phase == PhaseEnd || b.Exit == nil && b.Outputs == nil, "an exit code or outputs at the start")
	c.that(b.Phase == PhaseStart || b.Exit != nil, "no exit code at the end")
	c.outputs(b.Outputs)
	return c.err
}

func (b *RunRefusal) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.required("the step", b.Step, maxText)
	c.required("the reason", b.Reason, maxText)
	return c.err
}

func (b *JournalHead) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.digest("the journal's head", b.Head)
	c.number("the epoch", b.Epoch)
	c.that(b.Sequence <= maxCounter, "the journal's sequence is %d, want at most 2^53-1", b.Sequence)
	c.required("the volume", b.Volume, maxText)
	return c.err
}

func (b *Completion) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.text("the detail", b.Detail, maxText)
	c.outputs(b.Outputs)
	return c.err
}
