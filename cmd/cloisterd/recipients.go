package main

import (
	"encoding/base64"
	"fmt"
	"slices"

	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// recipientsOf are the parties that an output is sealed for beside its owner:
// those of the measured specification, and the contract must name the same keys.
func recipientsOf(s spec.Specification, agreed statement.Volume) ([]*format.Recipient, error) {
	recipients, ids := []*format.Recipient{}, []string{}
	for _, name := range recipientNames(s, agreed.Name) {
		r, err := recipientOf(s, name)
		if err != nil {
			return nil, fmt.Errorf("sealing output %s for %s: %w", agreed.Name, name, err)
		}
		recipients, ids = append(recipients, r), append(ids, r.KeyID().String())
	}
	slices.Sort(ids)
	if !slices.Equal(ids, agreed.Recipients) {
		return nil, fault.Errorf(fault.Refused, "amend the contract: cloister contract amend takes the recipients from the specification",
			"output %s is for keys %q in the specification and %q in the contract", agreed.Name, ids, agreed.Recipients)
	}
	return recipients, nil
}

func recipientNames(s spec.Specification, sink string) []string {
	for _, v := range s.DataSinks {
		if v.Name == sink {
			return v.Recipients
		}
	}
	return nil
}

func recipientOf(s spec.Specification, name string) (*format.Recipient, error) {
	party, _ := s.Party(name)
	spki, err := base64.StdEncoding.DecodeString(party.RecipientKey)
	if err != nil {
		return nil, err
	}
	return format.ParseRecipient(spki)
}
