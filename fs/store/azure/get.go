package azure

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"cloister/internal/fault"
)

// Get fills p with the object's bytes from offset off. An object that ends
// before is an error wrapping io.ErrUnexpectedEOF.
func (s *Store) Get(ctx context.Context, name string, off int64, p []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	if off < 0 {
		return fault.Errorf(fault.Internal, "", "reading object %s of %s: offset %d is negative", name, s, off)
	}
	err := s.get(ctx, name, off, p)
	if err != nil {
		return s.explain(request{doing: "reading", name: name}, err)
	}
	return nil
}

func (s *Store) get(ctx context.Context, name string, off int64, p []byte) error {
	if len(p) == 0 { // HTTP has no empty range
		size, err := s.size(ctx, name)
		if err == nil && off > size {
			err = &shortError{off, 0}
		}
		return err
	}
	got := 0
	var version *azcore.ETag // of the blob whose first bytes we have
	return s.retry(ctx, func(ctx context.Context) (bool, error) {
		n, v, err := s.download(ctx, name, off+int64(got), p[got:], version)
		got += n
		if n > 0 && version == nil {
			version = v
		}
		return n > 0, err
	})
}

// download makes one request for a range and returns how much of it arrived.
func (s *Store) download(ctx context.Context, name string, off int64, p []byte, version *azcore.ETag) (int, *azcore.ETag, error) {
	o := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: int64(len(p))}}
	if version != nil {
		o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: version}}
	}
	resp, err := s.blob(name).DownloadStream(ctx, o)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return 0, nil, &shortError{off, len(p)}
	}
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	n, err := served(resp.ContentRange, off, len(p))
	if err != nil {
		return 0, nil, err
	}
	got, err := io.ReadFull(resp.Body, p[:n])
	if err != nil && ctx.Err() == nil {
		// The cause is only shown: io.ErrUnexpectedEOF in it would say that the
		// object ends here.
		err = fmt.Errorf("%w: %v", errStopped, err)
	}
	if err == nil && n < len(p) {
		err = errStopped // it served less than asked: ask for the rest
	}
	return got, resp.ETag, err
}

// served checks that an answer's Content-Range is what was asked for, and
// returns how many bytes of it the body holds.
func served(header *string, off int64, want int) (int, error) {
	if header == nil {
		return 0, &answerError{"its answer to a request for a range is not a range"}
	}
	var first, last, size int64
	if n, err := fmt.Sscanf(*header, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil {
		return 0, &answerError{fmt.Sprintf("its answer has the range %q", *header)}
	}
	if size < off+int64(want) {
		return 0, &shortError{off, want}
	}
	if first != off || last < first || last-first >= int64(want) || last >= size {
		return 0, &answerError{fmt.Sprintf("%d bytes were asked for at %d, and it answers with %q", want, off, *header)}
	}
	return int(last - first + 1), nil
}
