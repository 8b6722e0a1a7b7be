package statement

import (
	"bytes"
	"strconv"
	"time"
)

// reader reads JSON in the one form in which this package writes it, as far as no
// string needs an escape: so it need not be written again to be compared. It is for
// what logs are full of, envelopes and the records of runs, and takes a third of the
// time of encoding/json. What it does not take it says nothing about: then
// encoding/json reads it, and judges it.
type reader struct {
	rest   []byte
	failed bool
}

// has takes a piece of text if it is next.
func (r *reader) has(piece string) bool {
	if r.failed || len(r.rest) < len(piece) || string(r.rest[:len(piece)]) != piece {
		return false
	}
	r.rest = r.rest[len(piece):]
	return true
}

func (r *reader) want(piece string) {
	if !r.has(piece) {
		r.failed = true
	}
}

// text takes a string of characters that JSON writes as they are.
func (r *reader) text() string {
	r.want(`"`)
	end := bytes.IndexByte(r.rest, '"')
	if r.failed || end < 0 {
		r.failed = true
		return ""
	}
	s := r.rest[:end]
	for _, b := range s {
		if b < ' ' || b > '~' || b == '\\' {
			r.failed = true
			return ""
		}
	}
	r.rest = r.rest[end+1:]
	return string(s)
}

// some takes a string that stands there only because it is not empty.
func (r *reader) some() string {
	s := r.text()
	r.failed = r.failed || s == ""
	return s
}

// number takes a whole number of up to 16 digits, which 2^53 has.
func (r *reader) number() uint64 {
	n := 0
	for n < len(r.rest) && n < 17 && r.rest[n] >= '0' && r.rest[n] <= '9' {
		n++
	}
	if r.failed || n == 0 || n > 16 || n > 1 && r.rest[0] == '0' {
		r.failed = true
		return 0
	}
	value, _ := strconv.ParseUint(string(r.rest[:n]), 10, 64) // of 16 digits: it fits
	r.rest = r.rest[n:]
	return value
}

// done reports whether all was taken.
func (r *reader) done() bool { return !r.failed && len(r.rest) == 0 }

func (r *reader) envelope() (env envelope) {
	r.want(`{"payload":`)
	env.Payload, env.PayloadType = r.text(), PayloadType
	r.want(`,"payloadType":"` + PayloadType + `","signatures":[`)
	for more := true; more && !r.failed; more = r.has(`,`) {
		r.want(`{"keyid":`)
		sig := envelopeSignature{KeyID: r.text()}
		r.want(`,"sig":`)
		sig.Sig = r.text()
		r.want(`}`)
		env.Signatures = append(env.Signatures, sig)
	}
	r.want(`]}`)
	return env
}

// lean is a body that a reader reads: what a member of its struct says in JSON.
type lean interface {
	Body
	read(*reader)
}

// readLean reads a statement's payload. What it returns encodes to just this payload;
// it has yet to pass check.
func readLean(payload []byte) (s Statement, ok bool) {
	// The members of no body that is read here are a text "contract", and a string
	// does not hold these quotes.
	end := bytes.LastIndex(payload, []byte(`,"contract":"`))
	body, isBody := bytes.CutPrefix(payload[:max(end, 0)], []byte(`{"body":`))
	if !isBody {
		return s, false
	}
	r := &reader{rest: payload[end:]}
	kind := r.around(&s)
	made, err := newBody(kind)
	b, isLean := made.(lean)
	if err != nil || !isLean || !r.done() {
		return s, false
	}
	of := &reader{rest: body}
	b.read(of)
	s.Body = b
	return s, of.done()
}

// around takes what stands behind a statement's body, and returns the body's type.
func (r *reader) around(s *Statement) Type {
	r.want(`,"contract":`)
	s.Contract = r.text()
	r.want(`,"signers":[`)
	for more := true; more && !r.failed; more = r.has(`,`) {
		r.want(`{"counter":`)
		id := SignerID{Counter: r.number()}
		r.want(`,"key":`)
		id.Key = r.text()
		r.want(`}`)
		s.Signers = append(s.Signers, id)
	}
	r.want(`],"time":`)
	s.Time = r.time()
	r.want(`,"type":`)
	kind := Type(r.text())
	r.want(`,"version":`)
	s.Version = r.number()
	r.want(`}`)
	return kind
}

func (r *reader) time() time.Time {
	said := r.text()
	t, err := time.Parse(timeForm, said)
	r.failed = r.failed || err != nil || t.Format(timeForm) != said
	return t
}

func (r *reader) run(head *Run) {
	r.want(`{"checkpoint":{"root":`)
	head.Checkpoint.Root = r.text()
	r.want(`,"size":`)
	head.Checkpoint.Size = r.number()
	r.want(`},"id":`)
	head.ID = r.text()
	r.want(`,"previous":`)
	head.Previous = r.some()
	r.want(`}`)
}

func (b *ConsentCheck) read(r *reader) {
	r.want(`{"evidence":`)
	b.Evidence = r.text()
	r.want(`,"nonce":`)
	b.Nonce = r.text()
	r.want(`,"run":`)
	r.run(&b.Run)
	r.want(`,"scope":`)
	b.Scope = r.text()
	if r.has(`,"what":`) {
		b.What = r.some()
	}
	r.want(`}`)
}

func (b *RecordAccess) read(r *reader) {
	r.want(`{`)
	if r.has(`"detail":`) {
		b.Detail = r.some()
		r.want(`,`)
	}
	r.want(`"name":`)
	b.Name = r.text()
	r.want(`,"run":`)
	r.run(&b.Run)
	if r.has(`,"volume":`) {
		b.Volume = r.some()
	}
	r.want(`,"what":`)
	b.What = r.text()
	r.want(`}`)
}

func (b *JournalHead) read(r *reader) {
	r.want(`{"epoch":`)
	b.Epoch = r.number()
	r.want(`,"head":`)
	b.Head = r.text()
	r.want(`,"run":`)
	r.run(&b.Run)
	r.want(`,"sequence":`)
	b.Sequence = r.number()
	r.want(`,"volume":`)
	b.Volume = r.text()
	r.want(`}`)
}
