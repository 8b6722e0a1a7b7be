// Package store opens the place where a volume's bytes live: a directory or a
// container of Azure's blob service. Stores know bytes, not formats.
//
// Life of a request: a consumer, which has declared the interface it needs,
// gets a Store from Open and calls it; the Store passes the call to the
// directory (package dir) or to the blob container (package azure), through a
// cache on disk (package diskcache) where one is asked for. Objects are
// immutable: Put makes one whole, under a name that is free, or not at all.
// What all promise alike is the conformance suite in storetest.
package store

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"cloister/fs/store/azure"
	"cloister/fs/store/dir"
	"cloister/fs/store/diskcache"
	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Entry is one object in a listing.
type Entry = object.Entry

// ErrNotExist and ErrExist are found by errors.Is in the error for an object
// that is not there, and for a new one whose name is taken. They are io/fs's.
var (
	ErrNotExist = object.ErrNotExist
	ErrExist    = object.ErrExist
)

// Options are what can be chosen about a store. The zero value opens what is
// there. All but Create and Cache are about blob containers.
type Options struct {
	// Create opens for writing: the directory or container is made where it is
	// absent, and what killed writers left in a directory is cleared.
	Create bool
	// Credential is used instead of the environment's; a SAS in the URL still
	// comes first.
	Credential azcore.TokenCredential
	// Client is used for every request instead of one that honours
	// HTTPS_PROXY, SSL_CERT_FILE and CAFile.
	Client *http.Client
	// CAFile names a file of PEM certificates to trust beside the system's.
	CAFile string
	// Patience is how long a store may be away before operations fail; 0 is
	// azure.DefaultPatience, which says what it means.
	Patience time.Duration
	// Waiting, if set, is given a line to show when a blob service that has not
	// answered yet fails in a way that may pass, once.
	Waiting func(line string)
	// Cache, where its Dir is set, keeps data objects on this machine's disk.
	Cache diskcache.Options
}

// Store is an open volume's place. It is safe for concurrent use.
type Store struct{ backend }

// backend is what dir and azure have in common.
type backend interface {
	Get(ctx context.Context, name string, off int64, p []byte) error
	Size(ctx context.Context, name string) (int64, error)
	Put(ctx context.Context, name string, data []byte) error
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
	Delete(ctx context.Context, name string) error
	Close() error
	String() string
}

// Open opens the store at location: the path of a directory, or a blob URL,
// https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX (or a sovereign
// cloud's), or Azurite's http://127.0.0.1:PORT/ACCOUNT/CONTAINER/PREFIX.
//
// A blob container is opened with the first of: a SAS in the URL,
// Options.Credential, AZURE_STORAGE_CONNECTION_STRING if it is for the URL's
// account, and the identity that azidentity finds.
func Open(ctx context.Context, location string, o Options) (*Store, error) {
	s, err := open(ctx, location, o)
	if err != nil || o.Cache.Dir == "" {
		return s, err
	}
	cached, err := diskcache.Open(s.backend, o.Cache)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Store{cached}, nil
}

// Fresh is Get past every copy on this machine: for a caller who finds that the
// bytes are not what was sealed.
func (s *Store) Fresh(ctx context.Context, name string, off int64, p []byte) error {
	if c, ok := s.backend.(*diskcache.Store); ok {
		return c.Fresh(ctx, name, off, p)
	}
	return s.Get(ctx, name, off, p)
}

func open(ctx context.Context, location string, o Options) (*Store, error) {
	scheme, _, isURL := strings.Cut(location, "://")
	switch {
	case location == "":
		return nil, fault.Errorf(fault.Usage, "name a directory or a blob URL", "the volume's name is empty")
	case !isURL:
		s, err := dir.Open(location, o.Create)
		if err != nil {
			return nil, err
		}
		return &Store{s}, nil
	case strings.EqualFold(scheme, "http"), strings.EqualFold(scheme, "https"):
		s, err := azure.Open(ctx, location, azure.Options{
			Create: o.Create, Credential: o.Credential, Client: o.Client, CAFile: o.CAFile, Patience: o.Patience, Waiting: o.Waiting})
		if err != nil {
			return nil, err
		}
		return &Store{s}, nil
	}
	shown, _, _ := strings.Cut(location, "?")
	return nil, fault.Errorf(fault.Usage, "name a directory by its path, or a blob container by its https URL",
		"volume %s: there is no store for %s://", shown, scheme)
}
