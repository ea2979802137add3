package updates

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Reason is why a message was rejected, as a label in metrics.
type Reason string

// The reasons.
const (
	ReasonMalformed    Reason = "malformed"    // not a signed update
	ReasonTooLarge     Reason = "too_large"    // over the limit of a message
	ReasonUnsigned     Reason = "unsigned"     // no signature
	ReasonReserialised Reason = "reserialised" // its content is signed, its bytes are not what a leader writes
	ReasonChecksum     Reason = "checksum"     // the document does not match the checksum
	ReasonSignature    Reason = "signature"    // not signed by a trusted key
	ReasonService      Reason = "service"      // of another service than its topic, or not a requested one
	ReasonEpoch        Reason = "epoch"        // of an epoch that no epoch change leads to
	ReasonOlder        Reason = "older"        // issued before the current one
	ReasonFuture       Reason = "future"       // dated in the future
	ReasonChannel      Reason = "channel"      // what one agent serves, and is not stable
	ReasonVersion      Reason = "version"      // accepted, but its unsigned version decreased and was ignored
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonTooLarge, ReasonUnsigned, ReasonReserialised, ReasonChecksum, ReasonSignature,
		ReasonService, ReasonEpoch, ReasonOlder, ReasonFuture, ReasonChannel, ReasonVersion,
	}
}

// rejection is why a message is not accepted.
type rejection struct {
	reason Reason
	err    *conf.Error
}

func reject(reason Reason, code conf.Code, format string, args ...any) *rejection {
	return &rejection{reason, conf.Errorf(code, format, args...)}
}

// read verifies the bytes of a message. It returns the update and the id of the key that
// signed it.
func read(payload []byte, trust []ed25519.PublicKey) (conf.Update, string, *rejection) {
	u, err := seal.DecodeUpdate(payload)
	switch {
	case conf.CodeOf(err) == conf.CodeTooLarge:
		return u, "", &rejection{ReasonTooLarge, conf.Errorf(conf.CodeTooLarge, "%w", err)}
	case err != nil && unsigned(payload), err == nil && u.Signature == "":
		return u, "", reject(ReasonUnsigned, conf.CodeDenied, "the message has no signature")
	case err != nil:
		return u, "", &rejection{ReasonMalformed, conf.Errorf(conf.CodeMalformed, "%w", err)}
	}
	key, no := verify(u, trust)
	if no != nil {
		return u, "", no
	}
	again, err := seal.EncodeUpdate(u)
	if err != nil || !bytes.Equal(again, payload) || seal.Checksum(u.Config) != u.Checksum {
		return u, "", reject(ReasonReserialised, conf.CodeCorrupt, "the signed update of %q was rewritten: its content is signed, these bytes are not", u.Service)
	}
	return u, key, nil
}

// verify verifies the checksum and the signature of u.
func verify(u conf.Update, trust []ed25519.PublicKey) (key string, no *rejection) {
	var err error
	for _, k := range trust {
		if err = seal.Verify(k, u); err == nil {
			return seal.KeyID(k), nil
		}
		if conf.CodeOf(err) != conf.CodeDenied {
			break // other keys give the same result
		}
	}
	reason := ReasonSignature
	if conf.CodeOf(err) == conf.CodeCorrupt {
		reason = ReasonMalformed
		if canonical, cerr := seal.CanonicalJSON(u.Config); cerr == nil && seal.Checksum(canonical) != u.Checksum {
			reason = ReasonChecksum
		}
	}
	return "", &rejection{reason, conf.Errorf(conf.CodeOf(err), "%w", err).
		WithHint("the message was changed, or it is of another cluster; after a rotation of the signing key give the new public key too: CONFIG_TRUST")}
}

// unsigned reports whether a message that does not decode has no signature.
func unsigned(payload []byte) bool {
	var m map[string]json.RawMessage
	if json.Unmarshal(payload, &m) != nil || m["config"] == nil || m["service"] == nil {
		return false
	}
	_, signed := m["signature"]
	return !signed
}
