package azure

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"cloister/fs/store/object"
	"cloister/fs/store/storetest"
	"cloister/internal/azurite"
	"cloister/internal/fault"
)

// open opens a fresh volume on the test's Azurite, by its connection string.
func open(t *testing.T, o Options) *Store {
	t.Helper()
	server := azurite.Start(t)
	t.Setenv(connectionVariable, server.ConnectionString())
	return openURL(t, server.NewURL(), o)
}

func openURL(t *testing.T, url string, o Options) *Store {
	t.Helper()
	o.Create = true
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, Options{PageSize: 10}) })
}

func TestConformanceAtTheContainersRoot(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		server := azurite.Start(t)
		t.Setenv(connectionVariable, server.ConnectionString())
		return openURL(t, strings.TrimSuffix(server.NewURL(), "/volume"), Options{PageSize: 10})
	})
}

// Beside the volume, under a name that begins as its prefix does, lies another.
func TestVolumesSideBySide(t *testing.T) {
	server := azurite.Start(t)
	t.Setenv(connectionVariable, server.ConnectionString())
	url := server.NewURL()
	a, b := openURL(t, url, Options{}), openURL(t, url+"2", Options{})
	for _, s := range []*Store{a, b} {
		if err := s.Put(t.Context(), "d/x", []byte(s.String())); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for e, err := range a.List(t.Context(), "") {
		if n++; err != nil || e.Name != "d/x" || e.Size != int64(len(a.String())) {
			t.Errorf("listed %v, %v", e, err)
		}
	}
	if n != 1 {
		t.Errorf("%d objects listed, want 1", n)
	}
}

func TestForeignBlobsAreNotListed(t *testing.T) {
	s := open(t, Options{})
	folder := "true"
	for name, o := range map[string]map[string]*string{
		"volume/a b":     nil,
		"volume/.hidden": nil,
		"volume/d":       {"hdi_isfolder": &folder},
	} {
		_, err := s.container.NewBlockBlobClient(name).UploadBuffer(t.Context(), nil, &blockblob.UploadBufferOptions{Metadata: o})
		if err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range s.List(t.Context(), "") {
		t.Errorf("listed: %v, %v", e, err)
	}
}

func TestAbsentContainer(t *testing.T) {
	server := azurite.Start(t)
	t.Setenv(connectionVariable, server.ConnectionString())
	s, err := Open(t.Context(), server.NewURL(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range calls(t.Context(), s) {
		if fault.KindOf(err) != fault.NotFound || !strings.Contains(strings.Join(fault.Hints(err), ""), "create the container") {
			t.Errorf("%s: %v: %v %q", what, fault.KindOf(err), err, fault.Hints(err))
		}
		if errors.Is(err, object.ErrNotExist) {
			t.Errorf("%s: a missing container looks like a missing object", what)
		}
	}
}

func TestContainerIsMadeOnce(t *testing.T) {
	server := azurite.Start(t)
	t.Setenv(connectionVariable, server.ConnectionString())
	url := server.NewURL()
	openURL(t, url, Options{})
	openURL(t, url, Options{})
}

// calls makes every call of a store's interface on the object d/x.
func calls(ctx context.Context, s *Store) map[string]error {
	_, sizeErr := s.Size(ctx, "d/x")
	var listErr error
	for _, err := range s.List(ctx, "d/") {
		listErr = err
	}
	return map[string]error{
		"Get":          s.Get(ctx, "d/x", 0, make([]byte, 10)),
		"Size":         sizeErr,
		"Put":          s.Put(ctx, "d/x", []byte("x")),
		"Put in parts": s.Put(ctx, "d/y", make([]byte, blockSize+1)),
		"List":         listErr,
		"Delete":       s.Delete(ctx, "d/x"),
	}
}
