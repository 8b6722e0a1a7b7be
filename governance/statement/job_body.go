package statement

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// What a Job statement tells of. That a job ends is its PhaseEnd.
const (
	PhaseResult = "result" // its result is handed to Party next
)

// Job tells of one of the jobs of a run whose contract has jobs: it starts or its
// result is handed over next, each after a consent-check to execution that was
// answered yes, or it ended. What parties send and get is never in the log.
type Job struct {
	Detail string `json:"detail,omitempty"` // why there is no result, only at the end
	// Exit is the exit code, as of RecordExecution; only at the end.
	Exit *int   `json:"exit,omitempty"`
	ID   string `json:"id"` // 16 bytes in hexadecimal, which its caller chose
	// Parameters are what the caller sent, if it sent any; only at the start.
	Parameters *Handed `json:"parameters,omitempty"`
	// Party called for it, or is handed the result; empty where the run started it.
	Party string `json:"party,omitempty"`
	Phase string `json:"phase"`
	// Result is what the application left for its caller, if it left any.
	Result *Handed `json:"result,omitempty"`
	Run    Run     `json:"run"`
}

// Handed stands for bytes that are not in the log.
type Handed struct {
	Digest string `json:"digest"` // of HandedDigest
	Size   uint64 `json:"size"`   // bytes
}

// saltBytes is the length of a job's salt.
const saltBytes = 32

// HandedDigest returns "sha256:" and the HMAC-SHA256 of bytes under a salt of 32
// bytes, in hexadecimal, which only those who may have the bytes are told: a bare
// digest would confirm every reader's guess at a short result.
func HandedDigest(salt [saltBytes]byte, data []byte) string {
	mac := hmac.New(sha256.New, salt[:])
	mac.Write(data)
	return "sha256:" + hex.EncodeToString(mac.Sum(nil))
}

// CheckJobID reports whether s can name a job: 32 lower-case hexadecimal digits.
func CheckJobID(s string) error {
	c := &checks{}
	c.hex("the job's id", s, runIDBytes)
	return c.err
}

func (*Job) Type() Type    { return TypeJob }
func (b *Job) Header() Run { return b.Run }

func (b *Job) check() error {
	c := &checks{}
	c.run(b.Run, false)
	c.hex("the job's id", b.ID, runIDBytes)
	c.oneOf("phase", b.Phase, PhaseStart, PhaseEnd, PhaseResult)
	c.that((b.Phase == PhaseEnd) == (b.Exit != nil), "an exit code is told at the end")
	c.that(b.Phase == PhaseEnd || b.Detail == "", "a detail is told at the end")
	c.that(b.Phase == PhaseStart || b.Parameters == nil, "parameters are told at the start")
	c.that(b.Phase != PhaseStart || b.Result == nil, "a result at the start")
	c.that(b.Phase != PhaseResult || b.Result != nil && b.Party != "", "nothing is handed over, or to nobody")
	c.that(b.Phase != PhaseEnd || b.Party == "", "a party at the end")
	c.text("the detail", b.Detail, maxText)
	if b.Party != "" {
		c.name("the party", b.Party)
	}
	c.handed("the parameters", b.Parameters)
	c.handed("the result", b.Result)
	return c.err
}

func (c *checks) handed(what string, h *Handed) {
	if h == nil {
		return
	}
	c.digest(what, h.Digest)
	c.that(h.Size <= maxCounter, "%s are %d bytes, want at most 2^53-1", what, h.Size)
}
