package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloister/internal/azurite"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// remote is a blob for azblob's own transfers, the reference for ours: no
// encryption, no file system.
type remote struct {
	container, name string
	size            int64
	best            pace   // found by trying
	buffer          []byte // to download into, touched before it is timed
}

// pace is how azblob is told to transfer.
type pace struct {
	block int64 // bytes
	ways  int
}

// paces are those worth trying with Azurite on a small machine.
var paces = []pace{{4 << 20, 4}, {4 << 20, 8}, {8 << 20, 2}, {8 << 20, 4}, {8 << 20, 8}, {8 << 20, 16}, {16 << 20, 4}}

func connect(s *azurite.Server, containerName string) (*container.Client, error) {
	// The SDK's own transport keeps 10 idle connections only.
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	return container.NewClientFromConnectionString(s.ConnectionString(), containerName,
		&container.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}}})
}

func (r *remote) client(s *azurite.Server) (*blockblob.Client, error) {
	c, err := connect(s, r.container)
	if err != nil {
		return nil, err
	}
	return c.NewBlockBlobClient(r.name), nil
}

func (r *remote) download(ctx context.Context, c *blockblob.Client, p pace) (seconds float64, err error) {
	return timed(func() error {
		_, err := c.DownloadBuffer(ctx, r.buffer, &blob.DownloadBufferOptions{BlockSize: p.block, Concurrency: uint16(p.ways)})
		return err
	})
}

// calibrate finds the pace at which azblob is fastest.
func (r *remote) calibrate(ctx context.Context, s *azurite.Server) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	r.buffer = make([]byte, r.size)
	best := 0.0
	for _, p := range slices.Concat(paces[:1], paces) { // the first time warms up
		seconds, err := r.download(ctx, c, p)
		if err != nil {
			return err
		}
		if best == 0 || seconds < best {
			best, r.best = seconds, p
		}
	}
	return nil
}

// downloadBuffer is azblob's DownloadBuffer of a blob: as it is fastest, or as
// many ways as are given.
func downloadBuffer(name string, of func(l *lab) (*remote, error), server func(l *lab) (*azurite.Server, error), ways int, figure func(seconds float64, c config) float64) side {
	return side{name, func(ctx context.Context, l *lab) (float64, error) {
		r, err := of(l)
		if err != nil {
			return 0, err
		}
		s, err := server(l)
		if err != nil {
			return 0, err
		}
		c, err := r.client(s)
		if err != nil {
			return 0, err
		}
		p := r.best
		if ways > 0 {
			p.ways = ways
		}
		seconds, err := r.download(ctx, c, p)
		return figure(seconds, l.config), err
	}}
}

// bareGet is the median latency, in microseconds, of ranged requests of 64 KiB
// at random places, one at a time.
func bareGet(ctx context.Context, l *lab) (float64, error) {
	r, err := l.plainBlob()
	if err != nil {
		return 0, err
	}
	s, err := l.azurite()
	if err != nil {
		return 0, err
	}
	c, err := r.client(s)
	if err != nil {
		return 0, err
	}
	const size = 64 << 10
	places := rand.New(rand.NewPCG(3, 4)).Perm(int(r.size / size))
	buffer := make([]byte, size)
	return medianLatency(blobReads, func(i int) error {
		off := int64(places[i%len(places)]) * size
		resp, err := c.DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: size}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.ReadFull(resp.Body, buffer)
		return err
	})
}

// uploadStream is azblob's UploadStream of the large file to a new server, in
// blocks of 8 MiB, 4 at once: what it is fastest with here.
var uploadStream = side{"azblob UploadStream", func(ctx context.Context, l *lab) (float64, error) {
	s, err := azurite.Launch(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	seconds, err := l.uploadLarge(ctx, s)
	return mibPerSecond(seconds, l.config), err
}}

func (l *lab) uploadLarge(ctx context.Context, s *azurite.Server) (seconds float64, err error) {
	source, err := l.source()
	if err != nil {
		return 0, err
	}
	c, err := connect(s, "plain")
	if err != nil {
		return 0, err
	}
	if _, err := c.Create(ctx, nil); err != nil {
		return 0, err
	}
	return timed(func() error {
		f, err := os.Open(filepath.Join(source, largeFile))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = c.NewBlockBlobClient("large").UploadStream(ctx, f, &blockblob.UploadStreamOptions{BlockSize: 8 << 20, Concurrency: 4})
		return err
	})
}

// uploadPlain makes the blob that azblob downloads.
func (l *lab) uploadPlain() (*remote, error) {
	ctx := context.Background()
	s, err := l.azurite()
	if err != nil {
		return nil, err
	}
	if _, err := l.uploadLarge(ctx, s); err != nil {
		return nil, err
	}
	r := &remote{container: "plain", name: "large", size: l.size}
	return r, r.calibrate(ctx, s)
}

// findManifest finds the manifest of the volume of many files.
func (l *lab) findManifest() (*remote, error) {
	ctx := context.Background()
	path, err := l.manyBlob()
	if err != nil {
		return nil, err
	}
	s, err := l.azurite()
	if err != nil {
		return nil, err
	}
	where, prefix, _ := strings.Cut(path, "/")
	c, err := connect(s, where)
	if err != nil {
		return nil, err
	}
	prefix += "/manifest/"
	page, err := c.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix}).NextPage(ctx)
	if err != nil {
		return nil, err
	}
	if len(page.Segment.BlobItems) != 1 {
		return nil, fmt.Errorf("%s has %d manifests, want 1", path, len(page.Segment.BlobItems))
	}
	item := page.Segment.BlobItems[0]
	r := &remote{container: where, name: *item.Name, size: *item.Properties.ContentLength}
	return r, r.calibrate(ctx, s)
}

func plainBlob(l *lab) (*remote, error)    { return l.plainBlob() }
func manifestBlob(l *lab) (*remote, error) { return l.manifestBlob() }

// medianLatency does something one time after the other, and returns the median
// of how long it took, in microseconds.
func medianLatency(times int, do func(i int) error) (float64, error) {
	latencies := make([]float64, 0, times)
	for i := range times {
		start := time.Now()
		if err := do(i); err != nil {
			return 0, err
		}
		latencies = append(latencies, float64(time.Since(start).Nanoseconds())/1000)
	}
	return median(latencies), nil
}

func timed(do func() error) (seconds float64, err error) {
	start := time.Now()
	err = do()
	return time.Since(start).Seconds(), err
}
