package seal

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// MaxEpochs is the largest message that DecodeEpochs accepts.
const MaxEpochs = 64 << 10

// maxChanges is the maximum of changes in a message: the newest.
const maxChanges = 64

// SignEpoch returns the signed statement that the epoch next follows the epoch old.
// Both must be UUIDs, or other names of letters, digits and hyphens.
func (s *Signer) SignEpoch(old, next string, at time.Time) conf.EpochChange {
	c := conf.EpochChange{Previous: old, Epoch: next, At: conf.FormatTime(at), KeyID: s.id}
	c.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(s.private, epochChangeBytes(c)))
	return c
}

// VerifyEpoch verifies the signature of c. A change in another form than SignEpoch's
// is CodeCorrupt, one without a signature by pub is CodeDenied.
func VerifyEpoch(pub ed25519.PublicKey, c conf.EpochChange) error {
	at, err := conf.ParseTime(c.At)
	if err != nil || conf.FormatTime(at) != c.At || !isName(c.Previous) || !isName(c.Epoch) || c.Previous == c.Epoch {
		return conf.Errorf(conf.CodeCorrupt, "the change to the epoch %q is damaged", conf.Clip(c.Epoch))
	}
	sig, ok := decodeSignature(c.Signature)
	if !ok {
		return conf.Errorf(conf.CodeCorrupt, "signature of the epoch %q is not the base64 of %d bytes", c.Epoch, ed25519.SignatureSize)
	}
	if len(pub) != ed25519.PublicKeySize || !ed25519.Verify(pub, epochChangeBytes(c), sig) {
		return conf.Errorf(conf.CodeDenied, "the change to the epoch %q is not signed by the key that is trusted", c.Epoch).
			WithHint("the message was changed, or it is of another cluster")
	}
	return nil
}

// epochChangeBytes differ from those of any update, which begin with a digit.
func epochChangeBytes(c conf.EpochChange) []byte {
	return []byte("holdfast-epoch|" + c.Previous + "|" + c.Epoch + "|" + c.At)
}

type epochsMessage struct {
	Version int                `json:"version"`
	Changes []conf.EpochChange `json:"changes"`
}

// EncodeEpochs encodes the message of topic system/config-epoch: the newest 64
// changes, the oldest first.
func EncodeEpochs(changes []conf.EpochChange) ([]byte, error) {
	return json.Marshal(epochsMessage{Format, changes[max(0, len(changes)-maxChanges):]})
}

// DecodeEpochs decodes the message of EncodeEpochs. It verifies nothing: call
// VerifyEpoch.
func DecodeEpochs(data []byte) ([]conf.EpochChange, error) {
	var m epochsMessage
	if err := conf.DecodeStrict(data, MaxEpochs, &m); err != nil {
		return nil, err
	}
	if m.Version != Format || len(m.Changes) > maxChanges {
		return nil, conf.Errorf(conf.CodeMalformed, "not a list of changes of the epoch in format %d", Format)
	}
	return m.Changes, nil
}
