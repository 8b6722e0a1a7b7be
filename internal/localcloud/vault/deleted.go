package vault

// The soft-deleted half of the interface, alike for keys and secrets.

func (s *Service) keys(st *state) collection[*keyVersion]       { return st.Keys }
func (s *Service) secrets(st *state) collection[*secretVersion] { return st.Secrets }

// remove soft-deletes an object and answers with what was deleted.
func remove[V item](s *Service, c call, kind string, in func(*state) collection[V], show func(string, V) (map[string]any, error)) (out any, err error) {
	err = s.store.update(func(st *state) error {
		o, err := in(st).live(kind, c.name)
		if err != nil {
			return err
		}
		shown, err := show(c.name, o.newest())
		if err != nil {
			return err
		}
		o.Deleted = s.Server.Now().Unix()
		out = deletion(shown, s.id("deleted"+kind+"s", c.name, ""), o.Deleted)
		return nil
	})
	return out, err
}

// showDeleted answers with a deleted object.
func showDeleted[V item](s *Service, c call, kind string, in func(*state) collection[V], show func(string, V) (map[string]any, error)) (out any, err error) {
	err = s.store.view(func(st *state) error {
		o, err := in(st).deleted(kind, c.name)
		if err != nil {
			return err
		}
		shown, err := show(c.name, o.newest())
		if err == nil {
			out = deletion(shown, s.id("deleted"+kind+"s", c.name, ""), o.Deleted)
		}
		return err
	})
	return out, err
}

// restore makes a deleted object live again.
func restore[V item](s *Service, c call, kind string, in func(*state) collection[V], show func(string, V) (map[string]any, error)) (out any, err error) {
	err = s.store.update(func(st *state) error {
		o, err := in(st).deleted(kind, c.name)
		if err != nil {
			return err
		}
		if out, err = show(c.name, o.newest()); err == nil {
			o.Deleted = 0
		}
		return err
	})
	return out, err
}

// purge removes a deleted object for good.
func purge[V item](s *Service, c call, kind string, in func(*state) collection[V]) (any, error) {
	return nil, s.store.update(func(st *state) error {
		if _, err := in(st).deleted(kind, c.name); err != nil {
			return err
		}
		delete(in(st), c.name)
		return nil
	})
}

func (s *Service) deleteKey(c call) (any, error) { return remove(s, c, "key", s.keys, s.bundle) }
func (s *Service) getDeletedKey(c call) (any, error) {
	return showDeleted(s, c, "key", s.keys, s.bundle)
}
func (s *Service) recoverKey(c call) (any, error) { return restore(s, c, "key", s.keys, s.bundle) }
func (s *Service) purgeKey(c call) (any, error)   { return purge(s, c, "key", s.keys) }

func (s *Service) deleteSecret(c call) (any, error) {
	return remove(s, c, "secret", s.secrets, s.properties)
}
func (s *Service) getDeletedSecret(c call) (any, error) {
	return showDeleted(s, c, "secret", s.secrets, s.properties)
}
func (s *Service) recoverSecret(c call) (any, error) {
	return restore(s, c, "secret", s.secrets, s.properties)
}
func (s *Service) purgeSecret(c call) (any, error) { return purge(s, c, "secret", s.secrets) }
