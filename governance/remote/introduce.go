package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/internal/fault"
)

// Contract is what the server says of the contract to everybody.
type Contract struct {
	Digest string `json:"digest"` // of the newest version; "" where nothing is proposed
}

// introduction is what a run that has not begun shows of itself: of the statement
// that it will begin with, all that its evidence binds.
type introduction struct {
	AuditKey       []byte             `json:"auditKey"`
	ContractDigest string             `json:"contractDigest"`
	Evidence       statement.Evidence `json:"evidence"`
	Run            string             `json:"run"`
	TLSKey         []byte             `json:"tlsKey,omitempty"`
}

// MaxIntroduction is the longest introduction in bytes: evidence fits into an
// entry of a log.
const MaxIntroduction = statement.MaxEntry

// ReadIntroduction reads what Introduce posts. Whether the evidence is any good is
// for its caller to find out.
func ReadIntroduction(raw []byte) (*statement.RunBegin, error) {
	refuse := func(cause error) error {
		return governance.Refuse(governance.Malformed, "use the client of this ledger's version", "the introduction: %w", cause)
	}
	var i introduction
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&i); err != nil {
		return nil, refuse(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse(errors.New("something follows it"))
	}
	if id, err := hex.DecodeString(i.Run); err != nil || len(id) != len(governance.Binding{}.RunID) {
		return nil, refuse(errors.New("its run is not 16 bytes in hexadecimal"))
	}
	return &statement.RunBegin{AuditKey: i.AuditKey, ContractDigest: i.ContractDigest, Evidence: i.Evidence, Run: statement.Run{ID: i.Run}, TLSKey: i.TLSKey}, nil
}

// Contract implements governance.RunLog.
func (l *Log) Contract(ctx context.Context) (string, error) {
	raw, err := l.get(ctx, "contract")
	if err != nil {
		return "", err
	}
	var said Contract
	if err := json.Unmarshal(raw, &said); err != nil {
		return "", fault.Errorf(fault.Unavailable, "is this the URL of a ledger?", "the answer of %s says no contract: %w", l.base, err)
	}
	return said.Digest, nil
}

// introduced is a run that reads by its evidence.
type introduced struct {
	key  statement.Signer
	body []byte
}

// Introduce implements governance.RunLog. The ledger may forget: then it is told
// again.
func (l *Log) Introduce(ctx context.Context, begin *statement.RunBegin, key statement.Signer) error {
	body, err := json.Marshal(introduction{begin.AuditKey, begin.ContractDigest, begin.Evidence, begin.Run.ID, begin.TLSKey})
	if err != nil {
		return err
	}
	i := &introduced{key, body}
	if err := l.introduce(ctx, i); err != nil {
		return err
	}
	l.run.Store(i)
	return nil
}

func (l *Log) introduce(ctx context.Context, i *introduced) error {
	_, err := l.do(ctx, http.MethodPost, "readers", i.body, i.key)
	return asFault(err)
}

// get reads as the run that was introduced, or else as who the log was opened for.
func (l *Log) get(ctx context.Context, path string) ([]byte, error) {
	run, signer := l.run.Load(), l.signer
	if run != nil {
		signer = run.key
	}
	raw, err := l.do(ctx, http.MethodGet, path, nil, signer)
	if again, errAgain := l.again(ctx, run, err); again {
		if err = errAgain; err == nil {
			raw, err = l.do(ctx, http.MethodGet, path, nil, signer)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of the log: %w", path, asFault(err))
	}
	return raw, nil
}

// again says whether a read that was refused is to be tried once more, and makes
// ready for it: the ledger has forgotten the run, or net/http sent the request
// twice, as it does where a connection breaks.
func (l *Log) again(ctx context.Context, run *introduced, refused error) (bool, error) {
	var p *problem
	switch {
	case !errors.As(refused, &p):
		return false, nil
	case p.Reason == governance.NotAParty && run != nil:
		return true, l.introduce(ctx, run)
	default:
		return p.Reason == governance.Replayed, nil
	}
}
