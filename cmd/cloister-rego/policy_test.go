package main

import (
	"testing"

	"cloister/enclave/rego"
)

// BenchmarkDecide is the evaluation by itself, without the way to it.
func BenchmarkDecide(b *testing.B) {
	var p policies
	if err := p.prepare(0, []byte("package api\ndefault allow := false\nallow if {\n\tinput.method == \"GET\"\n\tstartswith(input.path, \"/public/\")\n}\nreason := \"only what is public may be read\" if not allow\n")); err != nil {
		b.Fatal(err)
	}
	input := []byte(`{"method": "GET", "path": "/public/x", "headers": {"accept": ["*/*"], "host": ["api.example"]}, "body": {"size": 1000}}`)
	for b.Loop() {
		if a := p.answer(rego.Question{Op: rego.OpDecide, Text: input}); !a.Allow {
			b.Fatal(a)
		}
	}
}
