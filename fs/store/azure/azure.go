// Package azure keeps a volume's objects as block blobs under a prefix of a
// container in Azure's blob service, or in Azurite.
//
// Life of a request: Get asks for exactly the range it was given, under a watch
// that ends an attempt in which no byte moves; a body that stops is taken up at
// the byte where it stopped, from the same version of the blob. Put uploads a
// small object in one request and stages a large one in blocks, and makes it
// appear with If-None-Match: *, so that a name is never taken twice; when an
// answer was lost and the retry finds the name taken, the bytes there decide
// whether it was we who took it. A failure that may pass is retried for the
// store's patience; any other becomes an error with its remedy.
package azure

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"cloister/fs/store/object"
	"cloister/internal/fault"
)

// Options are what can be chosen about a store. The zero value is usable.
type Options struct {
	// Create makes the container where it is absent.
	Create bool
	// Credential is used instead of the environment's. A SAS in the URL still
	// comes first.
	Credential azcore.TokenCredential
	// Client is used for every request instead of one that honours
	// HTTPS_PROXY, SSL_CERT_FILE and CAFile.
	Client *http.Client
	// CAFile names a file of PEM certificates to trust beside the system's.
	CAFile string
	// Patience is how long a failing operation is retried; 0 is
	// DefaultPatience.
	Patience time.Duration
	// Stall is how long an attempt may go without a byte moving; 0 is
	// DefaultStall, or less where Patience is less.
	Stall time.Duration
	// Waiting, if set, is called once, with a line to show, when the service
	// fails the first request of all in a way that may pass: nobody should look
	// at a command that says nothing for the length of Patience because of a
	// mistaken URL.
	Waiting func(line string)
	// PageSize is how many objects a page of a listing holds; 0 leaves it to
	// the service, which gives 5,000.
	PageSize int32
}

// Store is a volume in a blob container. It is safe for concurrent use.
type Store struct {
	place      location
	container  *container.Client
	credential credentialKind
	client     *http.Client
	patience   time.Duration
	stall      time.Duration
	pageSize   int32
	answered   atomic.Bool // the service has answered at least once
	waiting    func(error) // told of a failure before it has; the first time only
	outage     outage
}

// Open opens the volume at a blob URL. Without Create it asks the service
// nothing yet.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	place, err := parseLocation(rawURL)
	if err != nil {
		return nil, err
	}
	client := o.Client
	if client == nil {
		if client, err = newClient(o.CAFile); err != nil {
			return nil, err
		}
	}
	s := &Store{place: place, client: client, patience: o.Patience, stall: o.Stall, pageSize: o.PageSize}
	if s.patience == 0 {
		s.patience = DefaultPatience
	}
	if s.stall == 0 {
		s.stall = max(min(DefaultStall, s.patience/2), minStall)
	}
	var once sync.Once
	s.waiting = func(cause error) {
		if o.Waiting != nil {
			once.Do(func() { o.Waiting(fmt.Sprintf("waiting for %s, up to %v: %v", s, s.patience, plain(cause))) })
		}
	}
	if s.container, s.credential, err = connect(place, o, client); err != nil {
		return nil, err
	}
	if o.Create {
		if err := s.create(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// create makes the container unless it is there. A credential for the
// container's content alone may not ask; whether the container is there then
// shows at the first object.
func (s *Store) create(ctx context.Context) error {
	err := s.retry(ctx, func(ctx context.Context) (bool, error) {
		_, err := s.container.GetProperties(ctx, nil)
		return false, err
	})
	switch status(err) {
	case http.StatusNotFound:
		return s.createAbsent(ctx)
	case http.StatusForbidden:
		return nil
	}
	if err != nil {
		return s.explain(request{doing: "looking for the container of"}, err)
	}
	return nil
}

func (s *Store) createAbsent(ctx context.Context) error {
	err := s.retry(ctx, func(ctx context.Context) (bool, error) {
		_, err := s.container.Create(ctx, nil)
		return false, err
	})
	if err == nil || bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return nil
	}
	err = s.explain(request{doing: "creating the container of", write: true}, err)
	if fault.KindOf(err) == fault.Denied {
		return fault.Errorf(fault.Denied, "or have the container created by somebody who may", "%w", err)
	}
	return err
}

// Close lets go of idle connections.
func (s *Store) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// String returns the volume's URL without its query.
func (s *Store) String() string { return s.place.String() }

// blob returns the client for an object.
func (s *Store) blob(name string) *blockblob.Client {
	return s.container.NewBlockBlobClient(s.path(name))
}

func (s *Store) path(name string) string {
	if s.place.prefix == "" {
		return name
	}
	return s.place.prefix + "/" + name
}

func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return object.CheckName(name)
}

// Size returns the object's length in bytes.
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	if err := check(ctx, name); err != nil {
		return 0, err
	}
	size, err := s.size(ctx, name)
	if err != nil {
		return 0, s.explain(request{doing: "looking for", name: name}, err)
	}
	return size, nil
}

func (s *Store) size(ctx context.Context, name string) (size int64, err error) {
	err = s.retry(ctx, func(ctx context.Context) (bool, error) {
		p, err := s.blob(name).GetProperties(ctx, nil)
		if err == nil && p.ContentLength == nil {
			err = &answerError{"its answer has no length"}
		}
		if err == nil {
			size = *p.ContentLength
		}
		return false, err
	})
	return size, err
}

// Delete removes the object. One that is not there is not an error.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	err := s.retry(ctx, func(ctx context.Context) (bool, error) {
		_, err := s.blob(name).Delete(ctx, nil)
		return false, err
	})
	if err == nil || bloberror.HasCode(err, bloberror.BlobNotFound) {
		return nil
	}
	return s.explain(request{doing: "deleting", name: name, write: true}, err)
}

// List yields the objects whose names begin with prefix, sorted by name, as the
// service pages through them. What could not be an object's name is passed
// over. An answer out of order is refused: a listing that is not sorted could
// hide or repeat objects. (Accounts with a hierarchical namespace sort by part;
// that is the same order as long as names differ from one another not only in
// "-" or "." against "/".)
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[object.Entry, error] {
	return func(yield func(object.Entry, error) bool) {
		if err := s.list(ctx, prefix, func(e object.Entry) bool { return yield(e, nil) }); err != nil {
			yield(object.Entry{}, s.explain(request{doing: "listing"}, err))
		}
	}
}

func (s *Store) list(ctx context.Context, prefix string, yield func(object.Entry) bool) error {
	full := s.path(prefix)
	o := &container.ListBlobsFlatOptions{Prefix: &full, Include: container.ListBlobsInclude{Metadata: true}}
	if s.pageSize > 0 {
		o.MaxResults = &s.pageSize
	}
	last := ""
	for pager := s.container.NewListBlobsFlatPager(o); pager.More(); {
		page, err := s.nextPage(ctx, pager)
		if err != nil {
			return err
		}
		for _, item := range page.Segment.BlobItems {
			e, ok := s.entry(item)
			if !ok {
				continue
			}
			if e.Name <= last {
				return &answerError{"its listing is not in order"}
			}
			last = e.Name
			if !yield(e) {
				return nil
			}
		}
	}
	return nil
}

func (s *Store) nextPage(ctx context.Context, pager *runtime.Pager[container.ListBlobsFlatResponse]) (page container.ListBlobsFlatResponse, err error) {
	err = s.retry(ctx, func(ctx context.Context) (bool, error) {
		page, err = pager.NextPage(ctx) // asks for the same page again after an error
		if err == nil && page.Segment == nil {
			err = &answerError{"its listing has no content"}
		}
		return false, err
	})
	return page, err
}

// entry returns an object of the volume, and false for anything else: foreign
// names, and the folders that an account with a hierarchical namespace shows.
func (s *Store) entry(item *container.BlobItem) (object.Entry, bool) {
	if item == nil || item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
		return object.Entry{}, false
	}
	for key := range item.Metadata {
		if strings.EqualFold(key, "hdi_isfolder") {
			return object.Entry{}, false
		}
	}
	name := *item.Name
	if s.place.prefix != "" {
		var ok bool
		if name, ok = strings.CutPrefix(name, s.place.prefix+"/"); !ok {
			return object.Entry{}, false
		}
	}
	return object.Entry{Name: name, Size: *item.Properties.ContentLength}, object.Valid(name)
}
