package vault

import (
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxResults is the services' largest page.
const maxResults = 25

// entry is one line of a list: where it stands in the order, and what is shown.
type entry struct {
	at   string
	show map[string]any
}

// page cuts the entries after the request's skip token to one page. The token
// names the last entry given, so that a list that changes meanwhile repeats and
// skips nothing else.
func (s *Service) page(c call, entries []entry) (any, error) {
	q := c.URL.Query()
	size := maxResults
	if v := q.Get("maxresults"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxResults {
			return nil, badParameter("maxresults %q is not between 1 and %d.", v, maxResults)
		}
		size = n
	}
	if token := q.Get("$skiptoken"); token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, badParameter("The skip token is not valid.")
		}
		i, found := slices.BinarySearchFunc(entries, string(last), func(e entry, at string) int { return strings.Compare(e.at, at) })
		if found {
			i++
		}
		entries = entries[i:]
	}
	value, next := []any{}, any(nil)
	for _, e := range entries[:min(size, len(entries))] {
		value = append(value, e.show)
	}
	if len(entries) > size {
		next = s.nextLink(c, entries[size-1].at, q)
	}
	return map[string]any{"value": value, "nextLink": next}, nil
}

func (s *Service) nextLink(c call, last string, q url.Values) string {
	q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(last)))
	return s.URL + c.URL.Path + "?" + q.Encode()
}

// names lists the objects of a collection, deleted or live.
func names[V item](s *Service, c call, in func(*state) collection[V], deleted bool, show func(name string, o *object[V]) map[string]any) (any, error) {
	var entries []entry
	err := s.store.view(func(st *state) error {
		all := in(st)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if o := all[name]; (o.Deleted != 0) == deleted {
				entries = append(entries, entry{name, show(name, o)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.page(c, entries)
}

// history lists the versions of a live object, by version.
func history[V item](s *Service, c call, kind string, in func(*state) collection[V], show func(V) map[string]any) (any, error) {
	var entries []entry
	err := s.store.view(func(st *state) error {
		o, err := in(st).live(kind, c.name)
		if err != nil {
			return err
		}
		for _, v := range o.Versions {
			entries = append(entries, entry{v.base().Version, show(v)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.at, b.at) })
	return s.page(c, entries)
}

// keyLine is a key in a list; version is empty in the list of keys.
func (s *Service) keyLine(name, version string, k *keyVersion) map[string]any {
	out := map[string]any{"kid": s.id("keys", name, version), "attributes": k.Attributes.wire(s.Kind, k.hsm())}
	if len(k.Tags) > 0 {
		out["tags"] = k.Tags
	}
	return out
}

func (s *Service) secretLine(name, version string, v *secretVersion) map[string]any {
	out, _ := s.properties(name, v) // properties of a secret cannot fail
	out["id"] = s.id("secrets", name, version)
	return out
}

func (s *Service) listKeys(c call) (any, error) {
	return names(s, c, s.keys, false, func(name string, o *object[*keyVersion]) map[string]any {
		return s.keyLine(name, "", o.newest())
	})
}

func (s *Service) listDeletedKeys(c call) (any, error) {
	return names(s, c, s.keys, true, func(name string, o *object[*keyVersion]) map[string]any {
		return deletion(s.keyLine(name, "", o.newest()), s.id("deletedkeys", name, ""), o.Deleted)
	})
}

func (s *Service) listKeyVersions(c call) (any, error) {
	return history(s, c, "key", s.keys, func(k *keyVersion) map[string]any { return s.keyLine(c.name, k.Version, k) })
}

func (s *Service) listSecrets(c call) (any, error) {
	return names(s, c, s.secrets, false, func(name string, o *object[*secretVersion]) map[string]any {
		return s.secretLine(name, "", o.newest())
	})
}

func (s *Service) listDeletedSecrets(c call) (any, error) {
	return names(s, c, s.secrets, true, func(name string, o *object[*secretVersion]) map[string]any {
		return deletion(s.secretLine(name, "", o.newest()), s.id("deletedsecrets", name, ""), o.Deleted)
	})
}

func (s *Service) listSecretVersions(c call) (any, error) {
	return history(s, c, "secret", s.secrets, func(v *secretVersion) map[string]any { return s.secretLine(c.name, v.Version, v) })
}
