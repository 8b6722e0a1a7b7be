package vault

// secretVersion is one version of a secret.
type secretVersion struct {
	meta
	Value       string `json:"value"`
	ContentType string `json:"contentType,omitempty"`
}

// maxSecret is the service's limit on a secret's value, bytes.
const maxSecret = 25 << 10

type secretRequest struct {
	Value       *string           `json:"value"`
	ContentType *string           `json:"contentType"`
	Attributes  attributeChange   `json:"attributes"`
	Tags        map[string]string `json:"tags"`
}

func (s *Service) setSecret(c call) (any, error) {
	var req secretRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	if req.Value == nil {
		return nil, badParameter("Property value is missing.")
	}
	if len(*req.Value) > maxSecret {
		return nil, badParameter("The secret is %d bytes; the limit is %d.", len(*req.Value), maxSecret)
	}
	v := &secretVersion{
		meta:  meta{Version: newVersion(), Attributes: newAttributes(req.Attributes, s.Server.Now()), Tags: req.Tags},
		Value: *req.Value,
	}
	if req.ContentType != nil {
		v.ContentType = *req.ContentType
	}
	if err := s.store.update(func(st *state) error { return st.Secrets.add("secret", c.name, v) }); err != nil {
		return nil, err
	}
	return s.secret(c.name, v)
}

// properties is the answer that shows a secret without its value.
func (s *Service) properties(name string, v *secretVersion) (map[string]any, error) {
	out := map[string]any{"id": s.id("secrets", name, v.Version), "attributes": v.Attributes.wire(s.Kind, false)}
	if v.ContentType != "" {
		out["contentType"] = v.ContentType
	}
	if len(v.Tags) > 0 {
		out["tags"] = v.Tags
	}
	return out, nil
}

func (s *Service) secret(name string, v *secretVersion) (map[string]any, error) {
	out, err := s.properties(name, v)
	out["value"] = v.Value
	return out, err
}

func (s *Service) getSecret(c call) (out any, err error) {
	err = s.store.view(func(st *state) error {
		v, err := st.Secrets.find("secret", c.name, c.version)
		if err != nil {
			return err
		}
		// The service gives an expired or not yet valid secret, but no disabled one.
		if !v.Attributes.Enabled {
			return forbidden("SecretDisabled", "Operation get is not allowed on a disabled secret.")
		}
		out, err = s.secret(c.name, v)
		return err
	})
	return out, err
}

func (s *Service) updateSecret(c call) (out any, err error) {
	var req secretRequest
	if err := decode(c, &req); err != nil {
		return nil, err
	}
	err = s.store.update(func(st *state) error {
		v, err := st.Secrets.find("secret", c.name, c.version)
		if err != nil {
			return err
		}
		v.Attributes.apply(req.Attributes, s.Server.Now())
		if req.ContentType != nil {
			v.ContentType = *req.ContentType
		}
		if req.Tags != nil {
			v.Tags = req.Tags
		}
		out, err = s.properties(c.name, v)
		return err
	})
	return out, err
}
