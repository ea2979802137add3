package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

func (o *Options) learnedFile() string { return filepath.Join(o.DataDir, "learned-keys.json") }

// learnedKeys is the file in which an observer keeps the signing keys that it learned
// from members, each with the proof that let it in. The MAC, of the key of the
// last-known-good file, covers what nobody signed: which of them are at their end.
type learnedKeys struct {
	path string
	macs [][]byte // the first one writes
	kept []byte   // what is in the file
}

// learnedFile is what stands in it.
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

// load reads the file. None is no error, and no key.
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
		return nil, conf.Errorf(conf.CodeUnsupported, "it has the version %d, and this build knows %d", in.Version, learnedVersion)
	}
	out := make([]conf.KeyInfo, 0, len(in.Keys))
	for _, k := range in.Keys {
		out = append(out, conf.KeyInfo{Kind: conf.KeySigning, ID: k.ID, Public: k.Public, State: k.State, NotAfter: k.NotAfter, Proof: k.Proof})
	}
	if seal.CheckMAC(l.macs[0], body, mac) {
		l.kept = body
	}
	return out, nil
}

// keep writes them, unless they stand there.
func (l *learnedKeys) keep(ring []conf.KeyInfo) error {
	out := learnedFile{Version: learnedVersion, Keys: []learnedKey{}}
	for _, k := range ring {
		out.Keys = append(out.Keys, learnedKey{k.ID, k.Public, k.State, k.NotAfter, k.Proof})
	}
	body, err := json.Marshal(out)
	if err != nil || bytes.Equal(body, l.kept) || l.kept == nil && len(ring) == 0 {
		return err
	}
	out.MAC = seal.MAC(l.macs[0], body)
	if err := lkg.WriteJSON(l.path, out, 0o600); err != nil {
		return err
	}
	l.kept = body
	return nil
}

// recallKeys tells what became of the keys of the file under the keys that are
// trusted now, and drops those that they do not prove any more.
func (b *Observer) recallKeys(was []conf.KeyInfo) {
	if len(was) == 0 {
		return
	}
	proven := b.receiver.Learned()
	for _, k := range was {
		i := slices.IndexFunc(proven, func(o conf.KeyInfo) bool { return o.ID == k.ID })
		pub, err := seal.DecodePublic(k.Public)
		switch {
		case i >= 0 && proven[i].State == conf.KeyExpired: // it may prove another one
		case i >= 0:
			b.log.Info("a signing key that was learned before is trusted: a trusted one proves it", "key", k.ID)
		case err == nil && slices.ContainsFunc(b.receiver.Trusted(), func(o publicKey) bool { return o.Equal(pub) }): // by the setting
		default:
			b.log.Warn("a signing key that was learned before is dropped: no key of CONFIG_TRUST proves it", "key", k.ID)
		}
	}
	b.keepKeys()
}

// keepKeys keeps what was learned over a restart.
func (b *Observer) keepKeys() {
	if err := b.learned.keep(b.receiver.Learned()); err != nil {
		b.log.Warn("the keys that were learned from members are not on disk: a restart forgets them", "err", err, "hint", conf.HintOf(err))
	}
}
