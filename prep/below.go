package prep

import (
	"context"
	"iter"
	"strings"
)

// below is the part of a store under a prefix, which ends with a slash: a volume
// that lies in another's place.
type below struct {
	store  Store
	prefix string
}

func (b below) Get(ctx context.Context, name string, off int64, p []byte) error {
	return b.store.Get(ctx, b.prefix+name, off, p)
}

func (b below) Put(ctx context.Context, name string, data []byte) error {
	return b.store.Put(ctx, b.prefix+name, data)
}

func (b below) Delete(ctx context.Context, name string) error {
	return b.store.Delete(ctx, b.prefix+name)
}

func (b below) List(ctx context.Context, prefix string) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		for e, err := range b.store.List(ctx, b.prefix+prefix) {
			e.Name = strings.TrimPrefix(e.Name, b.prefix)
			if !yield(e, err) {
				return
			}
		}
	}
}

func (b below) String() string {
	return strings.TrimSuffix(b.store.String(), "/") + "/" + strings.TrimSuffix(b.prefix, "/")
}
