package fs

import (
	"errors"
	"testing"

	"cloister/fs/format"
	"cloister/fs/store/storetest"
)

func recipientKey(t *testing.T, rsaBits int) *format.RecipientKey {
	t.Helper()
	k, err := format.NewRecipientKey(rsaBits)
	check(t, err)
	return k
}

// mustWrite makes a file, durable.
func mustWrite(t *testing.T, o *Output, name string, data []byte) {
	t.Helper()
	f := create(t, o, name)
	defer f.Release()
	writeAt(t, f, data, 0)
	check(t, f.Sync(ctx))
}

// readable reports with what error a key opens the newest epoch of a volume.
func readable(store Store, key KeyFunc) error {
	v, err := Open(ctx, store, key, Options{})
	if err != nil {
		return err
	}
	v.Close()
	return nil
}

// TestOutputForRecipients: the owner and those whom the output is sealed for
// read it, of either type of key, and nobody else.
func TestOutputForRecipients(t *testing.T) {
	store := new(storetest.Memory)
	x, r, stranger := recipientKey(t, 0), recipientKey(t, 2048), recipientKey(t, 0)
	o := mustOpen(t, store, OutputOptions{Recipients: []*format.Recipient{x.Recipient(), r.Recipient()}})
	mustWrite(t, o, "result", []byte("for two"))
	mustClose(t, o)
	for name, key := range map[string]KeyFunc{"owner": testKey, "X25519": x.DEK, "RSA": r.DEK} {
		if err := readable(store, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := readable(store, stranger.DEK); !errors.Is(err, format.ErrNotRecipient) {
		t.Errorf("a stranger: %v", err)
	}
	// Written again, by a recipient: who can read it stays as it was.
	again, err := OpenOutput(ctx, store, x.DEK, OutputOptions{})
	check(t, err)
	mustWrite(t, again, "more", []byte("of it"))
	mustClose(t, again)
	for name, key := range map[string]KeyFunc{"owner": testKey, "X25519": x.DEK, "RSA": r.DEK} {
		if err := readable(store, key); err != nil {
			t.Errorf("the second epoch: %s: %v", name, err)
		}
	}
	// Others chosen: the epoch is theirs.
	mustClose(t, mustOpen(t, store, OutputOptions{Recipients: []*format.Recipient{stranger.Recipient()}}))
	if err := readable(store, stranger.DEK); err != nil {
		t.Error(err)
	}
	if err := readable(store, x.DEK); !errors.Is(err, format.ErrNotRecipient) {
		t.Errorf("who was a recipient of the epochs before: %v", err)
	}
}

// TestRecipientsSurviveAKill: what a killed writer sealed for whom is so when
// another takes over.
func TestRecipientsSurviveAKill(t *testing.T) {
	store, x := new(storetest.Memory), recipientKey(t, 0)
	o := mustOpen(t, store, OutputOptions{Recipients: []*format.Recipient{x.Recipient()}})
	mustWrite(t, o, "result", []byte("durable"))
	after := store.Clone()
	mustClose(t, o)
	next := mustOpen(t, after, OutputOptions{})
	if next.Recovered() == nil {
		t.Fatal("nothing was recovered: the test tests nothing")
	}
	mustClose(t, next)
	if err := readable(after, x.DEK); err != nil {
		t.Error(err)
	}
}

// TestForgedForARecipient: a volume that somebody sealed under a DEK of their
// own for the recipient is told by the reference, and one whose stanza alone
// was exchanged by the check value or the seal.
func TestForgedForARecipient(t *testing.T) {
	x := recipientKey(t, 0)
	sealFor := func(root *format.RootSecret, volume format.VolumeID) (*storetest.Memory, format.Reference) {
		s := new(storetest.Memory)
		o, err := OpenOutput(ctx, s, root.DEK, OutputOptions{Create: true, Volume: volume, Recipients: []*format.Recipient{x.Recipient()}})
		check(t, err)
		ref, err := o.Close(ctx)
		check(t, err)
		return s, ref
	}
	volume := format.NewVolumeID()
	genuine, ref := sealFor(format.NewRootSecret(), volume)
	forged, _ := sealFor(format.NewRootSecret(), volume)
	if _, err := Open(ctx, forged, x.DEK, Options{Reference: &ref}); !errors.Is(err, format.ErrReference) {
		t.Errorf("a forged volume against the reference: %v", err)
	}
	// The forger's stanza in the genuine manifest, and that with the forger's
	// check value.
	name := format.ManifestName(1)
	mine, theirs := whole(t, genuine, name), whole(t, forged, name)
	p, size, err := format.ParsePreamble(theirs)
	check(t, err)
	swapped := append([]byte(nil), mine...)
	copy(swapped[size-len(p.Stanzas):], p.Stanzas)
	if err := readable(with(t, genuine, name, swapped), x.DEK); !errors.Is(err, format.ErrWrongKey) {
		t.Errorf("a stanza with another DEK: %v", err)
	}
	copy(swapped, theirs[:size])
	if err := readable(with(t, genuine, name, swapped), x.DEK); !errors.Is(err, format.ErrAuthentication) {
		t.Errorf("a preamble with another DEK: %v", err)
	}
}

func whole(t *testing.T, s *storetest.Memory, name string) []byte {
	t.Helper()
	size, err := s.Size(ctx, name)
	check(t, err)
	b := make([]byte, size)
	check(t, s.Get(ctx, name, 0, b))
	return b
}

// with returns the store with another object under a name.
func with(t *testing.T, s *storetest.Memory, name string, data []byte) *storetest.Memory {
	t.Helper()
	s = s.Clone()
	check(t, s.Delete(ctx, name))
	check(t, s.Put(ctx, name, data))
	return s
}
