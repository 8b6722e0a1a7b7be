package governance

import (
	"slices"

	"cloister/governance/statement"
)

// Provision is what the log knows of one volume's keys under the newest version.
type Provision struct {
	Volume    string               `json:"volume"`
	Owner     string               `json:"owner"`
	Requested []string             `json:"requested,omitempty"` // by whom
	Declined  string               `json:"declined,omitempty"`  // by whom and why, in words
	Resources []statement.Resource `json:"resources,omitempty"` // what its owner says is in place
}

// Provisioning returns what the log knows of each volume of the newest version,
// in their order.
func (s *State) Provisioning() []Provision {
	var list []Provision
	for _, v := range s.contract.Volumes {
		p := s.provision[v.Name]
		p.Volume, p.Owner = v.Name, v.Owner
		list = append(list, p)
	}
	return list
}

func (s *State) judgeProvision(body statement.Body, party string) (func(int64), error) {
	if s.status != Accepted {
		return nil, Refuse(WrongState, "wait until all parties have approved", "the contract is %s, resources are provisioned for an accepted one", s.status)
	}
	switch b := body.(type) {
	case *statement.ProvisionRequest:
		return s.judgeRequest(b, party)
	case *statement.ProvisionDecline:
		return s.judgeDecline(b, party)
	default:
		return s.judgeProvisioned(body.(*statement.Provisioned), party)
	}
}

func (s *State) judgeRequest(b *statement.ProvisionRequest, party string) (func(int64), error) {
	for _, name := range b.Volumes {
		if _, ok := s.contract.Volume(name); !ok {
			return nil, s.noVolume(name)
		}
	}
	return func(int64) {
		for _, name := range b.Volumes {
			p := s.provision[name]
			if !slices.Contains(p.Requested, party) {
				p.Requested = append(slices.Clone(p.Requested), party)
			}
			s.provision[name] = p
		}
	}, nil
}

func (s *State) judgeDecline(b *statement.ProvisionDecline, party string) (func(int64), error) {
	for _, name := range b.Volumes {
		if err := s.checkOwn(name, party); err != nil {
			return nil, err
		}
	}
	return func(int64) {
		for _, name := range b.Volumes {
			p := s.provision[name]
			p.Declined, p.Resources = words(party, "declined", b.Reason), nil
			s.provision[name] = p
		}
	}, nil
}

func (s *State) judgeProvisioned(b *statement.Provisioned, party string) (func(int64), error) {
	of := map[string][]statement.Resource{}
	for _, r := range b.Resources {
		if err := s.checkOwn(r.Name, party); err != nil {
			return nil, err
		}
		of[r.Name] = append(of[r.Name], r)
	}
	return func(int64) {
		for name, resources := range of {
			p := s.provision[name]
			p.Declined, p.Resources = "", resources
			s.provision[name] = p
		}
	}, nil
}

// checkOwn lets a party speak about the keys of its own volumes only.
func (s *State) checkOwn(name, party string) error {
	v, ok := s.contract.Volume(name)
	if !ok {
		return s.noVolume(name)
	}
	if v.Owner != party {
		return Refuse(NotOwner, "have its owner say so", "volume %q is of party %q, not of %q", name, v.Owner, party)
	}
	return nil
}

func (s *State) noVolume(name string) error {
	return Refuse(UnknownVolume, "see cloister contract status", "contract %q has no volume %q", s.contract.ID, name)
}
