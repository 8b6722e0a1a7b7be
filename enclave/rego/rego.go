// Package rego asks policies written in Rego about what the application sends
// and is sent. The evaluator is another program, cloister-rego, in a process
// that has no files, no network and another user: what parties wrote and
// strangers feed is evaluated where nothing is to be had, and the evaluator's
// code is no part of the runtime.
//
// Life of a decision: Start says where the program is, and Prepare gives it a
// module, which it compiles and keeps under a number. Decide makes JSON of the
// input, takes one of the lanes, each a connection on which one question at a
// time is asked, and waits for the answer: yes, or no with a reason. The process
// bounds each evaluation (EvaluationTime). Where it does not answer at all, it is
// killed, what was asked meanwhile is refused, and the next question starts
// another, which is given the modules again. Whatever else happens, the answer is
// no: an error is a refusal.
//
// What a policy looks like: one module of Rego v1, of any package, in which
//
//	allow   decides: true lets through, anything else, undefined included, does not
//	reason  may be a string that says why not
//
// and `input` is what the caller describes. Nothing in it reaches out of the
// evaluation: the built-in functions http.*, net.* and opa.runtime do not exist.
//
// The protocol, on a stream: a question is its length (4 bytes, big-endian, of
// what follows), one byte for what is asked, two for the policy's number, and JSON
// or a module's text; an answer is its length and JSON, Answer.
package rego

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// What is asked.
const (
	OpPrepare = 'p' // compile the module that follows, under this number
	OpDecide  = 'd' // evaluate that policy on the input that follows
)

const (
	// MaxFrame bounds a question, and so a module and an input, in bytes.
	MaxFrame = 1 << 20
	// MaxReason bounds a reason, in bytes; what is longer is cut.
	MaxReason = 256
	// EvaluationTime bounds one evaluation. Policies take tens of microseconds; one
	// that takes this long was fed something to keep it busy.
	EvaluationTime = 50 * time.Millisecond
	// Lanes is how many questions are asked at once. More than the processors, so
	// that slow evaluations do not at once hold up all others.
	Lanes = 16
)

// Question is one frame.
type Question struct {
	Op     byte
	Policy uint16
	Text   []byte
}

// Answer is what comes back. Error says why there is no decision.
type Answer struct {
	Allow  bool   `json:"allow"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

const questionHead = 3 // bytes of operation and number

// WriteTo writes the frame with one call.
func (q Question) WriteTo(w io.Writer) (int64, error) {
	b := make([]byte, 4, 4+questionHead+len(q.Text))
	binary.BigEndian.PutUint32(b, uint32(questionHead+len(q.Text)))
	b = append(b, q.Op, byte(q.Policy>>8), byte(q.Policy))
	n, err := w.Write(append(b, q.Text...))
	return int64(n), err
}

// ReadQuestion reads a frame; io.EOF where there is none.
func ReadQuestion(r io.Reader) (Question, error) {
	b, err := readFrame(r)
	if err != nil {
		return Question{}, err
	}
	if len(b) < questionHead {
		return Question{}, fmt.Errorf("a question of %d bytes", len(b))
	}
	return Question{Op: b[0], Policy: binary.BigEndian.Uint16(b[1:]), Text: b[questionHead:]}, nil
}

// WriteTo writes the frame with one call.
func (a Answer) WriteTo(w io.Writer) (int64, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	return int64(n), err
}

func readAnswer(r io.Reader) (a Answer, err error) {
	b, err := readFrame(r)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("a frame of %d bytes, more than %d", n, MaxFrame)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
