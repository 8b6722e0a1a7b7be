package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"golang.org/x/sync/errgroup"

	"cloister/internal/fault"
)

const (
	// blockSize is how much goes into one request; a larger object is staged in
	// blocks of it. 50,000 of them, the most that the service joins, are 390 GiB.
	// https://learn.microsoft.com/rest/api/storageservices/put-block
	blockSize = 8 << 20

	// parallelBlocks is how many blocks of one object are sent at a time.
	parallelBlocks = 4
)

// Put makes the object, whole or not at all, and returns when the service has
// stored it. A name that is taken is an error wrapping object.ErrExist, unless
// it was an attempt of this very call that took it. Every attempt sends the
// same bytes; the caller must not change data until Put returns.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	r := request{doing: "writing", name: name, write: true}
	publish := s.upload
	if len(data) > blockSize {
		blocks, err := s.stage(ctx, name, data)
		if err != nil {
			return s.explain(r, err)
		}
		publish = func(ctx context.Context, name string, _ []byte) error { return s.commit(ctx, name, blocks) }
	}
	unknown := false // an attempt may have been carried out though it failed
	err := s.retryUpload(ctx, func(ctx context.Context) error {
		err := publish(ctx, name, data)
		unknown = unknown || err != nil && !isDefinite(err)
		return err
	})
	if err == nil {
		return nil
	}
	if unknown && (isTaken(err) || isBlockListLost(err)) {
		same, cerr := s.holds(ctx, name, data)
		if cerr != nil {
			return fault.Errorf(fault.KindOf(cerr), "write it again: the same bytes may be sent twice", "finding out whether object %s of %s is the one written: %w", name, s, cerr)
		}
		if same {
			return nil
		}
		err = errTaken
	}
	if isBlockListLost(err) {
		err = s.blockListLost(ctx, name, err)
	}
	return s.explain(r, err)
}

// retryUpload is retry for a request with a body. After a failure the body is
// held back until the service asks for it (Expect: 100-continue): one that
// refuses a request without reading its body resets the connection, and the
// reason for the refusal is lost in the reset.
func (s *Store) retryUpload(ctx context.Context, attempt func(context.Context) error) error {
	failed := false
	return s.retry(ctx, func(ctx context.Context) (bool, error) {
		if failed {
			ctx = policy.WithHTTPHeader(ctx, http.Header{"Expect": {"100-continue"}})
		}
		err := attempt(ctx)
		failed = err != nil
		return false, err
	})
}

// onlyNew is If-None-Match: *, with which the service refuses a taken name.
func onlyNew() *blob.AccessConditions {
	anything := azcore.ETagAny
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &anything}}
}

func body(p []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(p)) }

func (s *Store) upload(ctx context.Context, name string, data []byte) error {
	_, err := s.blob(name).Upload(ctx, body(data), &blockblob.UploadOptions{AccessConditions: onlyNew()})
	return err
}

func (s *Store) commit(ctx context.Context, name string, blocks []string) error {
	_, err := s.blob(name).CommitBlockList(ctx, blocks, &blockblob.CommitBlockListOptions{AccessConditions: onlyNew()})
	return err
}

// stage sends the data in blocks and returns their names, in order. The names
// are this call's own: two writers of one object stage side by side, and
// neither can commit a block of the other's.
func (s *Store) stage(ctx context.Context, name string, data []byte) ([]string, error) {
	call := make([]byte, 16)
	rand.Read(call)
	blocks := make([]string, (len(data)+blockSize-1)/blockSize)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlocks)
	for i := range blocks {
		blocks[i] = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(call[:16:16], uint32(i)))
		group.Go(func() error {
			block := data[i*blockSize : min((i+1)*blockSize, len(data))]
			return s.retryUpload(ctx, func(ctx context.Context) error {
				_, err := s.blob(name).StageBlock(ctx, blocks[i], body(block), nil)
				return err
			})
		})
	}
	return blocks, group.Wait()
}

// isDefinite reports whether err is an answer by which the service has not done
// what it was asked. A lost answer and a failure inside it leave that open.
func isDefinite(err error) bool {
	a := answer(err)
	return a != nil && a.StatusCode < 500 && a.StatusCode != http.StatusRequestTimeout
}

// errTaken is the answer to a name that somebody else has taken.
var errTaken error = &azcore.ResponseError{StatusCode: http.StatusConflict, ErrorCode: string(bloberror.BlobAlreadyExists)}

func isTaken(err error) bool {
	return bloberror.HasCode(err, bloberror.BlobAlreadyExists)
}

// isBlockListLost reports whether staged blocks are gone: whoever commits first
// discards what others have staged under the name.
func isBlockListLost(err error) bool {
	return bloberror.HasCode(err, bloberror.InvalidBlockList)
}

// blockListLost returns errTaken if the name is taken, and else err.
func (s *Store) blockListLost(ctx context.Context, name string, err error) error {
	if _, serr := s.size(ctx, name); serr == nil {
		return errTaken
	}
	return err
}

// holds reports whether the object is there with exactly these bytes. It
// compares them all: a digest that the service kept would be the service's word.
func (s *Store) holds(ctx context.Context, name string, data []byte) (bool, error) {
	size, err := s.size(ctx, name)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.explain(request{doing: "looking for", name: name}, err)
	}
	if size != int64(len(data)) {
		return false, nil
	}
	piece := make([]byte, min(len(data), blockSize))
	for off := 0; off < len(data); off += len(piece) {
		piece = piece[:min(len(piece), len(data)-off)]
		if err := s.Get(ctx, name, int64(off), piece); err != nil {
			return false, err
		}
		if !bytes.Equal(piece, data[off:off+len(piece)]) {
			return false, nil
		}
	}
	return true, nil
}
