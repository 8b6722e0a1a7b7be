//go:build cgo

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"cloister/internal/fault"
	"cloister/internal/hsm"
)

func main() { os.Exit(run(os.Stdin, os.Stdout, os.Stderr)) }

func run(in io.Reader, out, said io.Writer) int {
	var q hsm.Request
	dec := json.NewDecoder(io.LimitReader(in, hsm.MaxMessage))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		fmt.Fprintln(said, "cloister-pkcs11 is started by cloister; it reads one request:", err)
		return 2
	}
	r, err := answer(q)
	if err != nil {
		r = hsm.Response{Kind: fault.KindOf(err).String(), Error: err.Error()}
		for _, hint := range fault.Hints(err) {
			r.Hint = hint
		}
	}
	if err := json.NewEncoder(out).Encode(r); err != nil {
		fmt.Fprintln(said, err)
		return 1
	}
	return 0
}

func answer(q hsm.Request) (r hsm.Response, err error) {
	s, err := login(q)
	if err != nil {
		return r, err
	}
	defer s.close()
	switch q.Do {
	case hsm.Generate:
		r.Point, err = s.generate(q.Key)
	case hsm.Sign:
		r.Signature, err = s.sign(q.Key, q.Digest)
	default:
		err = fault.Errorf(fault.Usage, "use the cloister-pkcs11 of the same version as cloister", "%q is nothing that can be asked", q.Do)
	}
	return r, err
}
