package lkg

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

const (
	// MaxFile is the size of the largest file that Load accepts.
	MaxFile = 256 << 20
	// maxReformatted is the size of the largest file that is parsed when it is not in
	// canonical form. Parsing takes many times its size in memory, and an attacker may
	// have written it.
	maxReformatted = 16 << 20
	// fileDepth is the depth of payload._meta.services.<service>.values.
	fileDepth = 5
)

// Load reads and verifies a file. The error is CodeNotFound without a file, and
// CodeCorrupt for a file that was changed. One of keys must have signed it: after a
// rotation, the old key is still accepted.
func Load(path string, keys ...[]byte) (*Content, error) {
	data, err := read(path, "last-known-good file", MaxFile)
	if err != nil {
		return nil, err
	}
	c, err := Decode(data, keys...)
	if err != nil {
		if e, ok := errors.AsType[*conf.Error](err); ok && e.Code == conf.CodeCorrupt {
			named := *e
			named.Message = "last-known-good file " + path + ": " + e.Message
			return nil, &named
		}
		return nil, err
	}
	return c, nil
}

func read(path, what string, limit int64) ([]byte, error) {
	// O_NONBLOCK: a named pipe at path must not block the agent.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, conf.Errorf(conf.CodeNotFound, "there is no %s %s", what, path)
	}
	if err != nil {
		return nil, readError(path, what, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, readError(path, what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, corruptError("%s %s: not a regular file", what, path)
	}
	if info.Size() > limit {
		return nil, corruptError("%s %s: %d bytes are over the limit of %d", what, path, info.Size(), limit)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, readError(path, what, err)
	}
	return data[:n], nil
}

func readError(path, what string, err error) error {
	return conf.Errorf(conf.CodeCorrupt, "%s %s: cannot be read: %w", what, path, withoutTempName(err)).
		WithHint("check the disk, and that the agent's user owns the file")
}

func corruptError(format string, args ...any) *conf.Error {
	return conf.Errorf(conf.CodeCorrupt, format, args...).
		WithHint("the agent writes a new one when its replica is up; delete it if it should not be there")
}

// Decode verifies the bytes of a file. It owns data: it writes to it, and the Content
// retains parts of it.
func Decode(data []byte, keys ...[]byte) (*Content, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(k []byte) bool { return len(k) == 0 })
	if len(keys) == 0 {
		return nil, errNoKey
	}
	var body []byte
	by := 0
	for i, key := range keys {
		if body = verifyCanonical(data, key); body != nil {
			by = i
			break
		}
	}
	if body == nil {
		var err error
		if body, by, err = decodeReformatted(data, keys); err != nil {
			return nil, err
		}
	}
	c, err := decodeBody(body)
	if err != nil {
		return nil, corruptError("damaged before it was signed: %v", err)
	}
	c.KeyIndex = by
	return c, nil
}

// verifyCanonical is the fast path: in canonical form, the signed bytes are those of
// the file without the last member. It returns them, or nil.
func verifyCanonical(data, key []byte) []byte {
	cut := len(data) - len(signatureHead) - signatureSize - len(signatureTail)
	if cut < 0 || string(data[cut:cut+len(signatureHead)]) != signatureHead ||
		string(data[len(data)-len(signatureTail):]) != signatureTail {
		return nil
	}
	signature := string(data[cut+len(signatureHead) : len(data)-len(signatureTail)])
	// The comma before the signature becomes the end of the signed bytes.
	data[cut] = '}'
	if !seal.CheckMAC(key, data[:cut+1], signature) {
		data[cut] = signatureHead[0]
		return nil
	}
	return data[: cut+1 : cut+1]
}

// decodeReformatted is the slow path, for any spelling of the same JSON. It returns
// the canonical form of the signed members.
func decodeReformatted(data []byte, keys [][]byte) (body []byte, by int, err error) {
	if len(data) > maxReformatted {
		return nil, 0, badMAC()
	}
	v, err := conf.ParseJSONDepth(data, maxReformatted, conf.MaxDepth+fileDepth)
	if err != nil {
		return nil, 0, corruptError("damaged: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, 0, corruptError("not a JSON object")
	}
	if err := checkMembers(m); err != nil {
		return nil, 0, err
	}
	signature := m["signature"].(string)
	delete(m, "signature")
	body, err = seal.Canonical(m)
	if err != nil {
		return nil, 0, corruptError("damaged: %w", err)
	}
	for i, key := range keys {
		if seal.CheckMAC(key, body, signature) {
			return body, i, nil
		}
	}
	return nil, 0, badMAC()
}

func badMAC() error {
	return conf.Errorf(conf.CodeCorrupt, "its HMAC does not match").
		WithHint("the file was changed, or LKG_HMAC_KEY_BASE64 is not the key that it was written with; " +
			"the agent writes a new one when its replica is up")
}

func checkMembers(m map[string]any) error {
	known := []string{"algorithm", "config_epoch", "generated_at", "payload", "signature"}
	for _, name := range known {
		v, ok := m[name]
		if !ok {
			return corruptError("member %q is missing", name)
		}
		want := "a string"
		if _, ok = v.(string); name == "payload" {
			want = "an object"
			_, ok = v.(map[string]any)
		}
		if !ok {
			return corruptError("member %q is not %s", name, want)
		}
	}
	if len(m) > len(known) {
		for _, name := range known {
			delete(m, name)
		}
		return corruptError("unknown member %q", conf.SortedKeys(m)[0])
	}
	if m["algorithm"] != Algorithm {
		return corruptError("algorithm is not %s", Algorithm)
	}
	return nil
}
