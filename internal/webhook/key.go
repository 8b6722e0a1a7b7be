package webhook

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"cloister/internal/fault"
)

// Key is what sender and receiver share. It is a secret: it shows as no more than
// that.
type Key struct{ secret []byte }

func (*Key) String() string       { return "webhook key" }
func (k *Key) GoString() string   { return k.String() }
func (*Key) LogValue() slog.Value { return slog.StringValue("webhook key") }

// Destroy makes the key unusable.
func (k *Key) Destroy() { clear(k.secret); k.secret = nil }

// keyPrefix begins a key as the specification has it written; its bounds on the
// key's bytes are the specification's too.
const (
	keyPrefix            = "whsec_"
	minKey, maxKey       = 24, 64
	maxKeyFile     int64 = 4 << 10
)

// ReadKey reads a key from a file, "whsec_" and base64 in one line. It refuses one
// that others can read.
func ReadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "(echo -n whsec_; openssl rand -base64 32) > FILE makes one; the receiver needs it too", "the webhook's key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fault.Errorf(fault.Refused, "chmod 600 "+path, "the webhook's key %s is accessible to others (mode %o)", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the webhook's key: %w", err)
	}
	defer clear(raw)
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(raw)), keyPrefix))
	if err != nil || len(secret) < minKey || len(secret) > maxKey {
		clear(secret)
		return nil, fault.Errorf(fault.Usage, "write whsec_ and base64 of 24 to 64 random bytes", "%s holds no webhook key", path)
	}
	return &Key{secret}, nil
}
