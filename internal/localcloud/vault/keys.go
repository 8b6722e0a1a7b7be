package vault

import (
	"encoding/json"
	"strings"
)

type keyRequest struct {
	Type       string            `json:"kty"`
	Size       int               `json:"key_size"`
	Curve      string            `json:"crv"`
	Ops        []string          `json:"key_ops"`
	Attributes attributeChange   `json:"attributes"`
	Policy     *releasePolicy    `json:"release_policy"`
	Tags       map[string]string `json:"tags"`
	// Of an import only.
	HSM bool `json:"Hsm"`
	Key *jwk `json:"key"`
}

func (s *Service) createKey(c call) (any, error) {
	var req keyRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	if err := s.Kind.checkType(req.Type); err != nil {
		return nil, err
	}
	material, err := generate(req.Type, req.Curve, req.Size)
	if err != nil {
		return nil, err
	}
	return s.addKey(c, req, material)
}

func (s *Service) importKey(c call) (any, error) {
	var req keyRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	if req.Key == nil {
		return nil, badParameter("Property key is missing.")
	}
	req.Type, req.Ops = req.Key.Type, req.Key.Ops
	if (req.HSM || s.Kind == ManagedHSM) && !strings.HasSuffix(req.Type, "-HSM") {
		req.Type += "-HSM" // imported as an HSM key
	}
	if err := s.Kind.checkType(req.Type); err != nil {
		return nil, err
	}
	material, err := req.Key.material()
	if err != nil {
		return nil, err
	}
	return s.addKey(c, req, material)
}

// addKey makes the first version of a key, or the next.
func (s *Service) addKey(c call, req keyRequest, material []byte) (any, error) {
	k := &keyVersion{
		meta:     meta{Version: newVersion(), Attributes: newAttributes(req.Attributes, s.Server.Now()), Tags: req.Tags},
		Type:     req.Type,
		Ops:      req.Ops,
		Material: material,
	}
	if len(k.Ops) == 0 {
		k.Ops = defaultOps(k.Type)
	}
	err := s.store.update(func(st *state) error {
		var before *releasePolicy
		if o := st.Keys[c.name]; o != nil && o.Deleted == 0 && k.Attributes.Exportable {
			before = o.newest().Policy
		}
		var err error
		if k.Policy, err = s.Kind.succeed(before, req.Policy); err != nil {
			return err
		}
		if err := k.checkExportable(); err != nil {
			return err
		}
		return st.Keys.add("key", c.name, k)
	})
	if err != nil {
		return nil, err
	}
	return s.bundle(c.name, k)
}

// checkExportable holds the services' rule: an exportable key is an HSM key
// under a release policy, and no other key has one.
func (k *keyVersion) checkExportable() error {
	switch {
	case k.Attributes.Exportable && !k.hsm():
		return badParameter("The key type %s cannot be exportable; use an HSM-protected key.", k.Type)
	case k.Attributes.Exportable && k.Policy == nil:
		return badParameter("A release policy must be provided when creating the first version of an exportable key.")
	case !k.Attributes.Exportable && k.Policy != nil:
		return badParameter("A release policy is only for an exportable key.")
	}
	return nil
}

func (s *Service) id(collection, name, version string) string {
	return strings.TrimSuffix(s.URL+"/"+collection+"/"+name+"/"+version, "/")
}

// bundle is the answer that shows a key.
func (s *Service) bundle(name string, k *keyVersion) (map[string]any, error) {
	key, err := k.public(s.id("keys", name, k.Version))
	if err != nil {
		return nil, err
	}
	out := map[string]any{"key": key, "attributes": k.Attributes.wire(s.Kind, k.hsm())}
	if k.Policy != nil {
		policy := *k.Policy
		out["release_policy"] = policy
	}
	if len(k.Tags) > 0 {
		out["tags"] = k.Tags
	}
	return out, nil
}

func (s *Service) getKey(c call) (out any, err error) {
	err = s.store.view(func(st *state) error {
		k, err := st.Keys.find("key", c.name, c.version)
		if err == nil {
			out, err = s.bundle(c.name, k)
		}
		return err
	})
	return out, err
}

func (s *Service) updateKey(c call) (out any, err error) {
	var req keyRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	err = s.store.update(func(st *state) error {
		k, err := st.Keys.find("key", c.name, c.version)
		if err != nil {
			return err
		}
		changed := *k
		if changed.Policy, err = s.Kind.succeed(k.Policy, req.Policy); err != nil {
			return err
		}
		if err := changed.checkExportable(); err != nil {
			return err
		}
		changed.Attributes.apply(req.Attributes, s.Server.Now())
		if req.Ops != nil {
			changed.Ops = req.Ops
		}
		if req.Tags != nil {
			changed.Tags = req.Tags
		}
		*k = changed
		out, err = s.bundle(c.name, k)
		return err
	})
	return out, err
}

// rotateKey makes a new version like the newest, under the same policy.
func (s *Service) rotateKey(c call) (any, error) {
	var before keyVersion
	err := s.store.view(func(st *state) error {
		k, err := st.Keys.find("key", c.name, "")
		if err == nil {
			before = *k
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	kty, curve, size, err := before.like()
	if err != nil {
		return nil, err
	}
	material, err := generate(kty, curve, size)
	if err != nil {
		return nil, err
	}
	exportable := before.Attributes.Exportable
	return s.addKey(c, keyRequest{Type: kty, Ops: before.Ops, Tags: before.Tags,
		Attributes: attributeChange{Exportable: &exportable}}, material)
}

func (s *Service) getRotationPolicy(c call) (out any, err error) {
	err = s.store.view(func(st *state) error {
		o, err := st.Keys.live("key", c.name)
		if err == nil {
			out, err = s.rotationPolicy(c.name, o.Rotation)
		}
		return err
	})
	return out, err
}

func (s *Service) setRotationPolicy(c call) (out any, err error) {
	var policy json.RawMessage
	if err := decode(c, &policy); err != nil {
		return nil, err
	}
	err = s.store.update(func(st *state) error {
		o, err := st.Keys.live("key", c.name)
		if err != nil {
			return err
		}
		if out, err = s.rotationPolicy(c.name, policy); err == nil {
			o.Rotation = policy
		}
		return err
	})
	return out, err
}

// rotationPolicy is the answer that shows one. It is kept but not carried out:
// nothing in a development directory lives long enough.
func (s *Service) rotationPolicy(name string, stored json.RawMessage) (map[string]any, error) {
	out := map[string]any{"lifetimeActions": []any{}, "attributes": map[string]any{}}
	if stored != nil {
		if err := json.Unmarshal(stored, &out); err != nil {
			return nil, badParameter("The rotation policy is not a JSON object: %v", err)
		}
	}
	out["id"] = s.id("keys", name, "rotationpolicy")
	return out, nil
}
