package governance

import (
	"fmt"
	"time"

	"cloister/governance/statement"
)

func (s *State) judgeGrant(body *statement.ConsentGrant, party string) (func(int64), error) {
	if s.status != Accepted {
		return nil, Refuse(WrongState, "wait until all parties have approved", "the contract is %s, consent is given to an accepted one", s.status)
	}
	return func(entry int64) {
		for _, scope := range body.Scopes {
			g := &grant{entry: entry, limit: body.Runs}
			if body.Expires != nil {
				g.expires = body.Expires.Time
			}
			s.consents[consentKey{party, scope}] = g
		}
	}, nil
}

// withdrawConsent keeps the grant, so that its end can be told from there never
// having been one. Withdrawing what was not granted is no error: the party wants
// to be sure.
func (s *State) withdrawConsent(body *statement.ConsentWithdraw, party string, entry int64) {
	for _, scope := range body.Scopes {
		s.consents[consentKey{party, scope}] = &grant{entry: entry, withdrawn: true}
	}
}

// consent says whether a party's consent holds at now for a run, or, with no
// run id, for one that is yet to begin.
func (s *State) consent(party, scope, id string, now time.Time) (bool, string) {
	g, ok := s.consents[consentKey{party, scope}]
	now = later(now, s.newest)
	switch {
	case !ok:
		return false, fmt.Sprintf("party %q has not consented to %s of version %d", party, scope, s.contract.Version)
	case g.withdrawn:
		return false, fmt.Sprintf("party %q withdrew its consent to %s (entry %d)", party, scope, g.entry)
	case !g.expires.IsZero() && !now.Before(g.expires):
		return false, fmt.Sprintf("consent of party %q to %s expired at %s", party, scope, g.expires.Format(time.RFC3339))
	case g.limit > 0 && !g.runs.has(parseRunID(id)) && uint64(g.runs.len()) >= g.limit:
		return false, fmt.Sprintf("consent of party %q to %s was for %d run(s), which have begun", party, scope, g.limit)
	default:
		return true, ""
	}
}

// allows says whether a run may take a step at now: every party consents to the
// version it carries out, and that is the newest and accepted.
func (s *State) allows(id string, r *run, scope string, now time.Time) (bool, string) {
	if s.status != Accepted {
		return false, fmt.Sprintf("the contract is %s", s.status)
	}
	if r.version != s.contract.Version {
		return false, fmt.Sprintf("the run carries out version %d, the newest is %d", r.version, s.contract.Version)
	}
	for _, p := range s.contract.Parties {
		if ok, why := s.consent(p.Name, scope, id, now); !ok {
			return false, why
		}
	}
	return true, ""
}

// countRun notes a run against every party's grant that is for so many.
func (s *State) countRun(id, scope string) {
	for _, p := range s.contract.Parties {
		if g := s.consents[consentKey{p.Name, scope}]; g.limit > 0 {
			g.runs.set(parseRunID(id), true)
		}
	}
}
