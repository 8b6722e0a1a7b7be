package vault

import (
	"encoding/json"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/release"
)

const policyContentType = "application/json; charset=utf-8"

// releasePolicy is a key's release policy as answers show it.
type releasePolicy struct {
	ContentType string `json:"contentType"`
	Data        binary `json:"data"`
	Immutable   bool   `json:"immutable"`
}

// newPolicy checks a client's policy and rewrites it as the services do: they
// answer with the same meaning in other bytes.
func (k Kind) newPolicy(p releasePolicy) (*releasePolicy, error) {
	if _, err := release.Parse(p.Data); err != nil {
		return nil, badParameter("The release policy is not valid: %v (%s)", err, strings.Join(fault.Hints(err), "; "))
	}
	var tree any
	if err := json.Unmarshal(p.Data, &tree); err != nil {
		return nil, badParameter("The release policy is not valid: %v", err)
	}
	data, err := k.rewrite(tree)
	if err != nil {
		return nil, err
	}
	return &releasePolicy{ContentType: policyContentType, Data: data, Immutable: p.Immutable}, nil
}

// rewrite gives a policy the bytes that the service of that kind answers with:
// the HSM sorts keys and ends an authority with a slash, the vault puts the
// version first and the authority before its conditions.
func (k Kind) rewrite(tree any) ([]byte, error) {
	if k != ManagedHSM {
		return ordered(tree)
	}
	root, _ := tree.(map[string]any)
	authorities, _ := root["anyOf"].([]any)
	for _, a := range authorities {
		if m, ok := a.(map[string]any); ok {
			if url, ok := m["authority"].(string); ok && !strings.HasSuffix(url, "/") {
				m["authority"] = url + "/"
			}
		}
	}
	return json.Marshal(tree)
}

// ordered is json.Marshal with the keys of objects in the vault's order.
func ordered(v any) ([]byte, error) {
	switch v := v.(type) {
	case []any:
		return joined('[', ']', len(v), func(i int) ([]byte, error) { return ordered(v[i]) })
	case map[string]any:
		keys := vaultOrder(v)
		return joined('{', '}', len(keys), func(i int) ([]byte, error) {
			name, err := json.Marshal(keys[i])
			if err != nil {
				return nil, err
			}
			value, err := ordered(v[keys[i]])
			return append(append(name, ':'), value...), err
		})
	default:
		return json.Marshal(v)
	}
}

func vaultOrder(m map[string]any) []string {
	first := []string{"version", "authority", "claim"}
	rank := func(key string) int {
		if i := slices.Index(first, key); i >= 0 {
			return i
		}
		return len(first)
	}
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

func joined(open, end byte, n int, part func(int) ([]byte, error)) ([]byte, error) {
	out := []byte{open}
	for i := range n {
		if i > 0 {
			out = append(out, ',')
		}
		p, err := part(i)
		if err != nil {
			return nil, err
		}
		out = append(out, p...)
	}
	return append(out, end), nil
}

// succeed decides which policy a new version or an update has, given the one
// before (nil: none) and the one asked for (nil: unchanged).
func (k Kind) succeed(before, asked *releasePolicy) (*releasePolicy, error) {
	if asked == nil {
		return before, nil
	}
	next, err := k.newPolicy(*asked)
	if err != nil || before == nil || !before.Immutable {
		return next, err
	}
	same, err := samePolicy(before.Data, next.Data)
	if err != nil {
		return nil, err
	}
	if !same || !next.Immutable {
		return nil, forbidden("KeyReleasePolicyImmutable", "The key's release policy is immutable and cannot be changed.")
	}
	return before, nil
}

func samePolicy(a, b []byte) (bool, error) {
	pa, err := release.Parse(a)
	if err != nil {
		return false, err
	}
	pb, err := release.Parse(b)
	return err == nil && release.Equal(pa, pb), err
}
