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
	// MaxFile is the size of the largest file, and of the largest journal, that Load accepts
	// and a Writer writes.
	MaxFile = 1 << 30
	// maxReformatted is the size of the largest file that is parsed when it is not in
	// canonical form. Parsing takes many times its size in memory, and an attacker may
	// have written it.
	maxReformatted = 16 << 20
	// fileDepth is the depth of payload._meta.services.<service>.values.
	fileDepth = 5
)

// Load reads and verifies a file and the journal beside it. The error is CodeNotFound
// without a file, and CodeCorrupt for a file that was changed. One of keys must have signed
// it: after a rotation, the old key is still accepted. A journal that is damaged costs no
// more than what is in it: Journal.Err of the content has why.
func Load(path string, keys ...[]byte) (*Content, error) {
	data, err := read(path, "last-known-good file", MaxFile)
	if err != nil {
		return nil, err
	}
	size := int64(len(data))
	c, signature, err := decode(data, keys)
	if err == nil {
		loadJournal(path, c, &Loaded{base: signature, baseIndex: c.Index, baseSize: size, key: keys[c.KeyIndex]}, keys)
		return c, nil
	}
	if e, ok := errors.AsType[*conf.Error](err); ok && e.Code == conf.CodeCorrupt {
		named := *e
		named.Message = "last-known-good file " + path + ": " + e.Message
		return nil, &named
	}
	return nil, err
}

// loadJournal adds the changes of the journal beside the file path to c.
func loadJournal(path string, c *Content, l *Loaded, keys [][]byte) {
	c.Journal = l
	journal := JournalPath(path)
	l.path = journal
	data, err := read(journal, "last-known-good journal", MaxFile)
	if conf.CodeOf(err) == conf.CodeNotFound {
		return
	}
	if err == nil {
		err = applyJournal(c, l, data, keys)
	}
	if err != nil {
		l.Err = conf.Errorf(conf.CodeCorrupt, "last-known-good journal %s: %w", journal, err).
			WithHint("the file beside it is used as it is, and what of the journal is good; the replica brings the rest")
	}
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
	c, _, err := decode(data, keys)
	return c, err
}

func decode(data []byte, keys [][]byte) (c *Content, signature string, err error) {
	if !slices.ContainsFunc(keys, func(k []byte) bool { return len(k) > 0 }) {
		return nil, "", errNoKey
	}
	by, body, signature := -1, canonicalBody(data), ""
	if body != nil {
		signature = signatureOf(data)
		c, by, err = decodeAndVerify(body, signature, keys)
	}
	if by < 0 {
		if body != nil {
			data[len(body)-1] = signatureHead[0]
		}
		if body, by, signature, err = decodeReformatted(data, keys); err != nil {
			return nil, "", err
		}
		c, err = decodeBody(body)
	}
	if err != nil {
		return nil, "", corruptError("damaged before it was signed: %v", err)
	}
	c.KeyIndex = by
	return c, signature, nil
}

// canonicalBody is the fast path: in canonical form, the signed bytes are those of the file
// without the last member. It returns them, which changes a byte of data, or nil.
func canonicalBody(data []byte) []byte {
	cut := len(data) - len(signatureHead) - signatureSize - len(signatureTail)
	if cut < 0 || string(data[cut:cut+len(signatureHead)]) != signatureHead ||
		string(data[len(data)-len(signatureTail):]) != signatureTail {
		return nil
	}
	data[cut] = '}' // the comma before the signature becomes the end of the signed bytes
	return data[: cut+1 : cut+1]
}

func signatureOf(data []byte) string {
	return string(data[len(data)-signatureSize-len(signatureTail) : len(data)-len(signatureTail)])
}

// maxUnverified is the size of the largest file that is decoded while its HMAC is being
// computed. What is decoded may take many times its size, and an attacker may have written it.
const maxUnverified = 256 << 20

// decodeAndVerify decodes the signed bytes, which nobody sees unless one of the keys has
// signed them: by is its index, -1 for none. The two take about the same time, and most
// machines have a second core.
func decodeAndVerify(body []byte, signature string, keys [][]byte) (c *Content, by int, err error) {
	signer := func() int {
		return slices.IndexFunc(keys, func(key []byte) bool { return seal.CheckMAC(key, body, signature) })
	}
	if len(body) > maxUnverified {
		if by = signer(); by >= 0 {
			c, err = decodeBody(body)
		}
		return c, by, err
	}
	found := make(chan int, 1)
	go func() { found <- signer() }()
	c, err = decodeBody(body)
	return c, <-found, err
}

// decodeReformatted is the slow path, for any spelling of the same JSON. It returns
// the canonical form of the signed members.
func decodeReformatted(data []byte, keys [][]byte) (body []byte, by int, signature string, err error) {
	if len(data) > maxReformatted {
		return nil, 0, "", badMAC()
	}
	v, err := conf.ParseJSONDepth(data, maxReformatted, conf.MaxSchemaDepth+fileDepth)
	if err != nil {
		return nil, 0, "", corruptError("damaged: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, 0, "", corruptError("not a JSON object")
	}
	if err := checkMembers(m); err != nil {
		return nil, 0, "", err
	}
	signature = m["signature"].(string)
	delete(m, "signature")
	body, err = seal.Canonical(m)
	if err != nil {
		return nil, 0, "", corruptError("damaged: %w", err)
	}
	for i, key := range keys {
		if seal.CheckMAC(key, body, signature) {
			return body, i, signature, nil
		}
	}
	return nil, 0, "", badMAC()
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
