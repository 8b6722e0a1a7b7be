package broker

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"
)

// TestSessions: a session stands for a guest once it is attested, and until it
// runs out.
func TestSessions(t *testing.T) {
	s, now := newSessions(), time.Unix(1_700_000_000, 0)
	id, nonce, err := s.begin("snp", now)
	if err != nil {
		t.Fatal(err)
	}
	if other, again, err := s.begin("snp", now); err != nil || other == id || again == nonce {
		t.Errorf("two sessions are one: %v", err)
	}
	if _, err := s.token(id, now); err == nil {
		t.Error("a session that is not attested has a token")
	}
	s.attested(id, "token")
	if token, err := s.token(id, now.Add(sessionLife)); err != nil || token != "token" {
		t.Errorf("%q, %v", token, err)
	}
	if _, err := s.token(id, now.Add(sessionLife+1)); err == nil {
		t.Error("a session lives on")
	}
	if _, err := s.token("absent", now); err == nil {
		t.Error("a session that nobody began")
	}
	if _, _, err := s.begin("snp", now.Add(time.Hour)); err != nil || len(s.byID) != 1 {
		t.Errorf("%d sessions are kept, %v", len(s.byID), err)
	}
}

// TestStore: nobody is admitted at first, admission is to one resource, and a
// restart keeps both.
func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broker.json")
	s, err := openStore(file)
	if err != nil {
		t.Fatal(err)
	}
	good, other := [32]byte{1}, [32]byte{2}
	if err := s.put("a/b/c", []byte("key")); err != nil {
		t.Fatal(err)
	}
	if _, found, admitted := s.get("a/b/c", good); !found || admitted {
		t.Errorf("found %t, admitted %t", found, admitted)
	}
	if err := s.admit("a/b/c", good); err != nil {
		t.Fatal(err)
	}
	if s, err = openStore(file); err != nil {
		t.Fatal(err)
	}
	data, found, admitted := s.get("a/b/c", good)
	if !bytes.Equal(data, []byte("key")) || !found || !admitted {
		t.Errorf("%q, found %t, admitted %t", data, found, admitted)
	}
	clear(data)
	if data, _, _ := s.get("a/b/c", good); !bytes.Equal(data, []byte("key")) {
		t.Error("who is given a resource can change it")
	}
	if _, _, admitted := s.get("a/b/c", other); admitted {
		t.Error("other host data is admitted")
	}
	if _, _, admitted := s.get("a/b/d", good); admitted {
		t.Error("host data is admitted to another resource")
	}
}
