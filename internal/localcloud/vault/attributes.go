package vault

import "time"

// Soft delete as both services have it by default.
const (
	recoverableDays = 90
	recoveryLevel   = "Recoverable+Purgeable"
)

// attributes of a key or secret; times in Unix seconds.
type attributes struct {
	Enabled    bool   `json:"enabled"`
	NotBefore  *int64 `json:"nbf,omitempty"`
	Expires    *int64 `json:"exp,omitempty"`
	Created    int64  `json:"created"`
	Updated    int64  `json:"updated"`
	Exportable bool   `json:"exportable,omitempty"`
}

// attributeChange is what a client may set of them.
type attributeChange struct {
	Enabled    *bool  `json:"enabled"`
	NotBefore  *int64 `json:"nbf"`
	Expires    *int64 `json:"exp"`
	Exportable *bool  `json:"exportable"`
}

func newAttributes(c attributeChange, now time.Time) attributes {
	a := attributes{Enabled: true, Created: now.Unix()}
	a.apply(c, now)
	a.Exportable = c.Exportable != nil && *c.Exportable
	return a
}

// apply makes a change; Exportable is fixed when a key is made.
func (a *attributes) apply(c attributeChange, now time.Time) {
	if c.Enabled != nil {
		a.Enabled = *c.Enabled
	}
	if c.NotBefore != nil {
		a.NotBefore = c.NotBefore
	}
	if c.Expires != nil {
		a.Expires = c.Expires
	}
	a.Updated = now.Unix()
}

// usable refuses an operation on a key that is disabled or out of its time.
func (s *Service) usable(operation string, a attributes) error {
	now := s.Server.Now()
	if s.Server.ExpiredKeys() {
		a.Expires = new(int64)
	}
	switch {
	case !a.Enabled:
		return forbidden("KeyDisabled", "Operation %s is not allowed on a disabled key.", operation)
	case a.Expires != nil && now.Unix() >= *a.Expires:
		return forbidden("KeyExpired", "Operation %s is not allowed on an expired key.", operation)
	case a.NotBefore != nil && now.Unix() < *a.NotBefore:
		return forbidden("KeyNotYetValid", "Operation %s is not allowed on a key that is not yet valid.", operation)
	}
	return nil
}

// wire is the attributes' form in an answer. The HSM says whether a key is
// exportable always, the vault only when it is.
func (a attributes) wire(kind Kind, hsmKey bool) map[string]any {
	out := map[string]any{
		"enabled": a.Enabled, "created": a.Created, "updated": a.Updated,
		"recoveryLevel": recoveryLevel, "recoverableDays": recoverableDays,
	}
	if a.NotBefore != nil {
		out["nbf"] = *a.NotBefore
	}
	if a.Expires != nil {
		out["exp"] = *a.Expires
	}
	if a.Exportable || kind == ManagedHSM {
		out["exportable"] = a.Exportable
	}
	if hsmKey {
		out["hsmPlatform"] = "simulated"
	}
	return out
}

// deletion adds what an answer says of a deleted object.
func deletion(out map[string]any, recoveryID string, deleted int64) map[string]any {
	out["recoveryId"] = recoveryID
	out["deletedDate"] = deleted
	out["scheduledPurgeDate"] = deleted + recoverableDays*24*60*60
	return out
}
