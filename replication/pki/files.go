package pki

import (
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// The files of an identity.
const (
	fileCA    = "ca.pem"
	fileCert  = "node.pem"
	fileKey   = "node-key.pem"
	fileCAKey = "ca-key.pem"
)

const maxFile = 1 << 20

// LoadIdentity reads the identity in dir. The error has conf.CodeNotFound when there
// is none, conf.CodeCorrupt when it is damaged or inconsistent.
func LoadIdentity(dir string) (*Identity, error) {
	certPEM, err := readFile(dir, fileCert)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, conf.Errorf(conf.CodeNotFound, "no identity of an agent in %s", dir).
			WithHint("start a cluster, or join one with a token from: holdfast token create")
	}
	var id *Identity
	if err == nil {
		id, err = loadIdentity(dir, certPEM)
	}
	if err == nil {
		return id, nil
	}
	if conf.CodeOf(err) == conf.CodeCorrupt || errors.Is(err, fs.ErrNotExist) {
		return nil, conf.Errorf(conf.CodeCorrupt, "the identity of this agent in %s is damaged: %w", dir, err).WithHint("%s", hintRejoin)
	}
	return nil, conf.Errorf(conf.CodeInternal, "cannot read the identity of this agent in %s: %w", dir, err).
		WithHint("the directory and its files must belong to the user that the agent runs as")
}

func loadIdentity(dir string, certPEM []byte) (*Identity, error) {
	certs, err := decodeCerts(certPEM)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, conf.Errorf(conf.CodeCorrupt, "%s holds %d certificates", fileCert, len(certs))
	}
	keyPEM, err := readFile(dir, fileKey)
	if err != nil {
		return nil, err
	}
	keys, err := decodeKeys(keyPEM)
	if err != nil {
		return nil, err
	}
	caPEM, err := readFile(dir, fileCA)
	if err != nil {
		return nil, err
	}
	cas, err := decodeCerts(caPEM)
	if err != nil {
		return nil, err
	}
	// During a renewal the file contains the new key and the old one.
	key := keys[0]
	for _, k := range keys {
		if samePublic(certs[0].PublicKey, k.Public()) {
			key = k
		}
	}
	id, err := newIdentity(certs[0], key, cas, nil)
	if err != nil || id.Role != RoleServer {
		return id, err
	}
	return id.loadCA(dir)
}

// loadCA adds the CA key if there is one.
func (id *Identity) loadCA(dir string) (*Identity, error) {
	data, err := readFile(dir, fileCAKey)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return nil, err
	}
	return id.WithCAKey(data)
}

// WithCAKey is id with the key of one of its CAs, in PEM form.
func (id *Identity) WithCAKey(data []byte) (*Identity, error) {
	keys, err := decodeKeys(data)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		for _, cert := range id.CAs {
			if samePublic(cert.PublicKey, key.Public()) {
				ca, err := newCA(cert, key)
				if err != nil {
					return nil, err
				}
				return id.WithCA(ca)
			}
		}
	}
	return nil, conf.Errorf(conf.CodeCorrupt, "the CA key is of none of the CAs that this agent trusts")
}

// NodeKey returns the private key for a join: the one in dir, else a new one, which it
// saves there first. A join that is retried with the same key counts as one use of the
// token.
func NodeKey(dir string) (crypto.Signer, error) {
	data, err := readFile(dir, fileKey)
	if err == nil {
		if keys, err := decodeKeys(data); err == nil {
			return keys[0], nil
		}
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	data, err = encodeKeys(key)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, unwritable(dir, err)
	}
	if err := putFile(dir, fileKey, data); err != nil {
		return nil, unwritable(dir, err)
	}
	return key, nil
}

// Save writes id to dir, durably. A crash leaves the old identity, the new one, or
// none if there was none or that of another cluster.
func (id *Identity) Save(dir string) error {
	steps, err := id.saveSteps(dir)
	if err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return unwritable(dir, err)
	}
	for _, step := range steps {
		if err := step.do(dir); err != nil {
			return unwritable(dir, err)
		}
	}
	return nil
}

// saveStep replaces one file, or removes it when data is nil.
type saveStep struct {
	name string
	data []byte
}

func (s saveStep) do(dir string) error {
	if s.data != nil {
		return putFile(dir, s.name, s.data)
	}
	if err := os.Remove(filepath.Join(dir, s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// saveSteps are ordered so that the files are consistent after each: the key file
// contains both keys until the certificate, which is last, is written.
func (id *Identity) saveSteps(dir string) ([]saveStep, error) {
	keyPEM, err := encodeKeys(id.Key)
	if err != nil {
		return nil, err
	}
	var steps []saveStep
	bothKeys := keyPEM
	cas := id.CAs
	if old, err := LoadIdentity(dir); err == nil && old.ClusterID == id.ClusterID {
		if !samePublic(old.Key.Public(), id.Key.Public()) {
			if bothKeys, err = encodeKeys(id.Key, old.Key); err != nil {
				return nil, err
			}
		}
		for _, c := range old.CAs {
			if !id.Trusts(c) {
				cas = append(cas[:len(cas):len(cas)], c)
			}
		}
	} else if conf.CodeOf(err) != conf.CodeNotFound {
		steps = append(steps, saveStep{fileCert, nil})
	}
	steps = append(steps, saveStep{fileKey, bothKeys}, saveStep{fileCA, encodeCerts(cas...)})
	if id.CA != nil {
		caKey, err := id.CA.KeyPEM()
		if err != nil {
			return nil, err
		}
		steps = append(steps, saveStep{fileCAKey, caKey})
	} else {
		steps = append(steps, saveStep{fileCAKey, nil})
	}
	steps = append(steps, saveStep{fileCert, encodeCerts(id.Cert)})
	if len(bothKeys) > len(keyPEM) {
		steps = append(steps, saveStep{fileKey, keyPEM})
	}
	if len(cas) > len(id.CAs) {
		steps = append(steps, saveStep{fileCA, encodeCerts(id.CAs...)})
	}
	return steps, nil
}

func unwritable(dir string, err error) error {
	return conf.Errorf(conf.CodeStorageFull, "cannot keep the identity of this agent in %s: %w", dir, err).
		WithHint("the directory must be writable and have space")
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Chmod(dir, 0o700), durable.SyncDir(filepath.Dir(dir)))
}

// readFile reads a file of an identity. One that others can read is closed to
// them: an archive that was unpacked may have left it open.
func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, conf.Errorf(conf.CodeCorrupt, "%s is not a file of an identity", name)
	}
	if info.Mode().Perm()&0o077 != 0 {
		_ = os.Chmod(path, 0o600)
	}
	return os.ReadFile(path)
}

func putFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := durable.RemoveTemps(path); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}
