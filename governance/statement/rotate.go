package statement

import "bytes"

// Rotate puts a party's new signing key in the place of its old one. It is
// signed with three keys: the old one; the party's recovery key or the key of
// another party, so that a stolen key alone cannot do it; and the new one, so
// that nobody is given a key that he does not hold.
type Rotate struct {
	// Key is the new signing key, SPKI in DER.
	Key   []byte `json:"key"`
	Party string `json:"party"`
	// Recovery takes the place of the party's recovery key, if it has one and
	// this is given; SPKI in DER.
	Recovery []byte `json:"recovery,omitempty"`
}

// Type implements Body.
func (*Rotate) Type() Type { return TypeRotate }

func (b *Rotate) check() error {
	c := &checks{}
	c.name("party", b.Party)
	_, err := ParsePublicKey(b.Key)
	c.that(err == nil, "the new key: %v", err)
	if b.Recovery != nil {
		_, err = ParsePublicKey(b.Recovery)
		c.that(err == nil, "the new recovery key: %v", err)
		c.that(!bytes.Equal(b.Key, b.Recovery), "the new key is the recovery key too")
	}
	return c.err
}
