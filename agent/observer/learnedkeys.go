package observer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/updates"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// learnedKeys is the file in which an observer stores the signing keys that it learned
// from members, each with its key proof. The MAC, under the key of the last-known-good
// file, covers what is not signed: which of them have expired.
type learnedKeys struct {
	path    string
	macs    [][]byte // the first one writes
	log     *slog.Logger
	written []byte // content of the file
}

// learnedFile is its JSON form.
type learnedFile struct {
	Version int          `json:"version"`
	Keys    []learnedKey `json:"keys"`
	MAC     string       `json:"hmac"`
}

type learnedKey struct {
	ID       string `json:"key_id"`
	Public   string `json:"public"`
	State    string `json:"state"`
	NotAfter string `json:"not_after"`
	Proof    string `json:"proof"`
}

const (
	learnedVersion = 1
	maxLearnedFile = 1 << 20
)

// load reads the file. Without one there are no keys, and no error.
func (l *learnedKeys) load() ([]conf.KeyInfo, error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in learnedFile
	if info, serr := f.Stat(); serr != nil || !info.Mode().IsRegular() || info.Size() > maxLearnedFile {
		return nil, conf.Errorf(conf.CodeCorrupt, "it is not a file of keys")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLearnedFile))
	if err != nil {
		return nil, err
	}
	if err := conf.DecodeStrict(data, maxLearnedFile, &in); err != nil {
		return nil, conf.Errorf(conf.CodeCorrupt, "it is damaged: %w", err)
	}
	mac := in.MAC
	in.MAC = ""
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(l.macs, func(key []byte) bool { return seal.CheckMAC(key, body, mac) }) {
		return nil, conf.Errorf(conf.CodeCorrupt, "its HMAC is not right: it was changed, or another key wrote it")
	}
	if in.Version != learnedVersion {
		return nil, conf.Errorf(conf.CodeUnsupported, "version %d is not supported, this build reads version %d", in.Version, learnedVersion)
	}
	out := make([]conf.KeyInfo, 0, len(in.Keys))
	for _, k := range in.Keys {
		out = append(out, conf.KeyInfo{Kind: conf.KeySigning, ID: k.ID, Public: k.Public, State: k.State, NotAfter: k.NotAfter, Proof: k.Proof})
	}
	if seal.CheckMAC(l.macs[0], body, mac) {
		l.written = body
	}
	return out, nil
}

// write stores the keys, unless the file has them.
func (l *learnedKeys) write(ring []conf.KeyInfo) error {
	out := learnedFile{Version: learnedVersion, Keys: []learnedKey{}}
	for _, k := range ring {
		out.Keys = append(out.Keys, learnedKey{k.ID, k.Public, k.State, k.NotAfter, k.Proof})
	}
	body, err := json.Marshal(out)
	if err != nil || bytes.Equal(body, l.written) || l.written == nil && len(ring) == 0 {
		return err
	}
	out.MAC = seal.MAC(l.macs[0], body)
	if err := lkg.WriteJSON(l.path, out, 0o600); err != nil {
		return err
	}
	l.written = body
	return nil
}

// save writes the keys that r has learned, or logs why it cannot.
func (l *learnedKeys) save(r *updates.Receiver) {
	if err := l.write(r.Learned()); err != nil {
		l.log.Warn("the keys that were learned from members are not on disk: a restart forgets them", "err", err, "hint", conf.HintOf(err))
	}
}

// reportSavedKeys logs which of the loaded keys r still trusts, and removes the others
// from the file.
func (l *learnedKeys) reportSavedKeys(loaded []conf.KeyInfo, r *updates.Receiver) {
	if len(loaded) == 0 {
		return
	}
	proven := r.Learned()
	for _, k := range loaded {
		i := slices.IndexFunc(proven, func(o conf.KeyInfo) bool { return o.ID == k.ID })
		pub, err := seal.DecodePublic(k.Public)
		switch {
		case i >= 0 && proven[i].State == conf.KeyExpired: // it may prove another one
		case i >= 0:
			l.log.Info("trusting a saved signing key, proved by a trusted one", "key", k.ID)
		case err == nil && slices.ContainsFunc(r.Trusted(), func(o ed25519.PublicKey) bool { return o.Equal(pub) }): // by the setting
		default:
			l.log.Warn("a saved signing key is dropped: no key of CONFIG_TRUST proves it", "key", k.ID)
		}
	}
	l.save(r)
}
