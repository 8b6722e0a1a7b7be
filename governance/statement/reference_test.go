package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

const someReference = "cloister-v1.0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.1.1.sha256-00.00"

func TestSignedReference(t *testing.T) {
	for _, algorithm := range []Algorithm{P256, Ed25519} {
		writer, other := testKey(t, algorithm), testKey(t, algorithm)
		signed, err := SignReference(someReference, writer)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyReference(signed, someReference, writer.Public()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if err := readWithLibrary(signed, writer.Public()); err != nil {
			t.Errorf("%s: the DSSE library: %v", algorithm, err)
		}
		forged, err := SignReference(someReference, other)
		if err != nil {
			t.Fatal(err)
		}
		as := bytes.Replace(forged, []byte(other.Public().Fingerprint()), []byte(writer.Public().Fingerprint()), 1)
		sig := bytes.Index(signed, []byte(`"sig":"`)) + len(`"sig":"`) + 20
		broken := bytes.Clone(signed)
		broken[sig] ^= 1
		for name, tc := range map[string]struct {
			signed    []byte
			reference string
			want      string
		}{
			"another reference":    {signed, strings.Replace(someReference, ".1.1.", ".2.1.", 1), "over another reference"},
			"another writer":       {forged, someReference, "not signed with key"},
			"in the writer's name": {as, someReference, "is not by key"},
			"a broken signature":   {broken, someReference, "signature"},
			"a statement's type":   {bytes.Replace(signed, []byte(ReferencePayloadType), []byte(PayloadType), 1), someReference, "payload type"},
			"white space":          {append(bytes.Clone(signed), '\n'), someReference, "canonical"},
			"nothing":              {nil, someReference, "parsing"},
			"too long":             {bytes.Repeat([]byte(" "), MaxReferenceSignature+1), someReference, "at most"},
			"no signatures":        {[]byte(`{"payload":"","payloadType":"","signatures":null}`), someReference, "payload type"},
		} {
			err := VerifyReference(tc.signed, tc.reference, writer.Public())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %s: got %v, want %q", algorithm, name, err, tc.want)
			}
		}
	}
}

// readWithLibrary verifies an envelope with another implementation of DSSE.
func readWithLibrary(signed []byte, key PublicKey) error {
	var env dsse.Envelope
	if err := json.Unmarshal(signed, &env); err != nil {
		return err
	}
	payload, err := env.DecodeB64Payload()
	if err != nil || string(payload) != someReference {
		return fmt.Errorf("payload %q, %v", payload, err)
	}
	sig, err := decodeBase64(env.Signatures[0].Sig)
	if err != nil {
		return err
	}
	return key.verify(dsse.PAE(env.PayloadType, payload), sig)
}

func FuzzVerifyReference(f *testing.F) {
	key := testKey(f, Ed25519)
	signed, err := SignReference(someReference, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if VerifyReference(raw, someReference, key.Public()) == nil && !bytes.Equal(raw, signed) {
			t.Errorf("%q is accepted as well", raw)
		}
	})
}
