package infra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"cloister/internal/fault"
)

// FuzzOpen: a stranger's envelope is refused, and what its signer put into one is
// a well-formed index, or is refused too.
func FuzzOpen(f *testing.F) {
	s, spki := newSigner(f, "ed25519")
	signed, err := Sign(context.Background(), example(), s, spki)
	if err != nil {
		f.Fatal(err)
	}
	payload, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(payload)
	f.Add([]byte(`{"format":"` + Format + `","sequence":1,"minSVN":1,"runtimes":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if x, err := Open(t.Context(), data, spki); err == nil {
			wantSame(t, x, example()) // the one thing ever signed
		} else if fault.KindOf(err) != fault.Refused {
			t.Errorf("the envelope: %v", err)
		}
		if x, err := Open(t.Context(), sealed(t, s, spki, data), spki); err == nil {
			if err := x.Check(); err != nil {
				t.Errorf("opened what is no index: %v", err)
			}
			again, err := Sign(t.Context(), x, s, spki)
			if err != nil {
				t.Fatal(err)
			}
			back, err := Open(t.Context(), again, spki)
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, back, x)
		} else if fault.KindOf(err) != fault.Refused {
			t.Errorf("the payload: %v", err)
		}
	})
}

func wantSame(t *testing.T, have, want Index) {
	t.Helper()
	a, err := json.Marshal(have)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(want)
	if err != nil || string(a) != string(b) {
		t.Errorf("opened %s, want %s, %v", a, b, err)
	}
}

// sealed is an envelope around any payload, as its key's holder could make one.
func sealed(t *testing.T, s testSigner, spki, payload []byte) []byte {
	t.Helper()
	// DSSE 1.0, "Signature Definition".
	signature, err := s.SignMessage(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(PayloadType), PayloadType, len(payload), payload))
	if err != nil {
		t.Fatal(err)
	}
	id, err := key{spki: spki}.KeyID()
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.StdEncoding.EncodeToString
	out, err := json.Marshal(map[string]any{"payloadType": PayloadType, "payload": enc(payload), "signatures": []any{map[string]string{"keyid": id, "sig": enc(signature)}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
