package format

// With returns the plaintext of a manifest of the same tree, for the same volume,
// with keys and objects in the place of its own: nil keeps them, and else objects has
// as many as there are. Places stay where both are kept and go where they are not: new
// objects lie under the volume's own prefix. It refuses, as a reader would, what is
// not well-formed.
func (m *Manifest) With(keys []Key, objects []Object) ([]byte, error) {
	sections := []section{
		{sectionKeys, flagCritical, m.keys}, {sectionObjects, flagCritical, m.objects},
		{sectionInodes, flagCritical, m.inodes}, {sectionEntries, flagCritical, m.entries},
		{sectionNames, flagCritical, m.names}, {sectionExtents, flagCritical, m.extents},
	}
	if len(m.xattrs) > 0 {
		sections = append(sections, section{sectionXattrs, flagCritical, m.xattrs})
	}
	if len(m.provenance) > 0 {
		sections = append(sections, section{sectionProvenance, 0, m.provenance})
	}
	switch {
	case keys != nil:
		if len(objects) != m.Objects() {
			return nil, malformed("%d objects are in the place of %d", len(objects), m.Objects())
		}
		sections[0].body, sections[1].body = encodeTables(keys, objects)
		defer clear(sections[0].body)
	case len(m.places) > 0:
		sections = append(sections, section{sectionPlaces, flagCritical, encodePlaces(m.places)})
	}
	plain := encodeSections(sections)
	made := new(Manifest)
	if err := made.parse(plain); err != nil {
		return nil, err
	}
	return plain, made.validate()
}

func encodeTables(keys []Key, objects []Object) (k, o []byte) {
	k = make([]byte, 0, len(keys)*keySize) // not moved, so that it can be cleared
	for _, key := range keys {
		k = appendKey(k, key)
	}
	for _, object := range objects {
		o = appendObject(o, object)
	}
	return k, o
}
