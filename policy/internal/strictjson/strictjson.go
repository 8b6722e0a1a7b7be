// Package strictjson reads JSON that somebody else wrote and that decides who
// gets a key, so that two readers cannot see two documents in the same bytes.
//
// Life of a document: Parse checks its size and its UTF-8, then walks the
// tokens once, refusing a key given twice, nesting that is too deep and
// anything after the value, and returns plain maps, slices and scalars with
// numbers kept as they were written.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits bound what Parse accepts.
type Limits struct {
	Size  int // bytes of the whole document
	Depth int // objects and arrays nested in each other
}

// Parse returns the JSON value in data as map[string]any, []any, string,
// json.Number, bool or nil. Its errors give the byte offset.
func Parse(data []byte, limits Limits) (any, error) {
	if len(data) > limits.Size {
		return nil, fmt.Errorf("document of %d bytes is longer than %d", len(data), limits.Size)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("document is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	r := reader{dec}
	v, err := r.value(limits.Depth)
	if err != nil {
		return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("at byte %d: more after the end of the document", dec.InputOffset())
	}
	return v, nil
}

type reader struct{ dec *json.Decoder }

func (r reader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("document ends too early")
	}
	return t, err
}

func (r reader) value(depth int) (any, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == 0 {
		return nil, errors.New("nested too deep")
	}
	if delim == '{' {
		return r.object(depth - 1)
	}
	return r.array(depth - 1)
}

func (r reader) object(depth int) (any, error) {
	object := map[string]any{}
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("object key is %v, not a string", t)
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("key %q is given twice", key)
		}
		if object[key], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := r.token()
	return object, err
}

func (r reader) array(depth int) (any, error) {
	array := []any{}
	for r.dec.More() {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := r.token()
	return array, err
}
