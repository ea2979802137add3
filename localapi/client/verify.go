package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// MaxUpdate is the size over which no message is a signed update.
const MaxUpdate = seal.MaxUpdate

// VerifyUpdate reads a signed update, the message of topic
// system/config/<service>, and proves that the owner of one of keys signed these
// very bytes. It is as strict as a receiver must be: a message that says the same
// in other words (reordered, re-indented, another spelling of a number) is refused
// too. The code of the error is CodeMalformed or CodeTooLarge for what is no
// signed update, CodeCorrupt for one that was changed, CodeDenied for one that
// none of keys signed.
//
// It does not prove that the update is the newest, nor that it is the one that was
// asked for: hold Service, Epoch and IssuedAt against what is known.
func VerifyUpdate(data []byte, keys ...ed25519.PublicKey) (conf.Update, error) {
	u, err := seal.DecodeUpdate(data)
	if err != nil {
		return conf.Update{}, err
	}
	if _, err := SignedBy(u, keys...); err != nil {
		return conf.Update{}, err
	}
	again, err := seal.EncodeUpdate(u)
	if err != nil {
		return conf.Update{}, err
	}
	if !bytes.Equal(data, again) || seal.Checksum(u.Config) != u.Checksum {
		return conf.Update{}, conf.Errorf(conf.CodeCorrupt, "the signed update of %q was written anew: its content is signed, these bytes are not", u.Service).
			WithHint("verify the message as it was received, before anything parses and prints it")
	}
	return u, nil
}

// SignedBy finds the key of keys that signed u, and returns it with the name that
// key_id gives it.
func SignedBy(u conf.Update, keys ...ed25519.PublicKey) (id string, err error) {
	if len(keys) == 0 {
		return "", conf.Errorf(conf.CodeUsage, "no public key to verify with").WithHint("take those of the cluster from /v1/keys of an agent")
	}
	for _, k := range keys {
		if err = seal.Verify(k, u); err == nil {
			return seal.KeyID(k), nil
		}
		if conf.CodeOf(err) != conf.CodeDenied {
			return "", err // no other key makes it better
		}
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = seal.KeyID(k)
	}
	return "", conf.Errorf(conf.CodeDenied, "the signed update of %q is not signed by %s", u.Service, strings.Join(names, " or ")).
		WithHint("the message was changed, or it is of another cluster")
}

// PublicKeys reads the keys that verify signed updates from the agent.
func (c *Client) PublicKeys(ctx context.Context) ([]ed25519.PublicKey, error) {
	body, err := c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return ParseKeys(body)
}

// ParseKeys reads Ed25519 public keys from any text that Holdfast writes them as:
// PEM blocks (also with "\n" spelled out, as in a .env file), the base64 of the 32
// bytes, one a line, or the answer of /v1/keys. Lines that begin with "#" are
// comments. A text without a key is an error.
func ParseKeys(text []byte) (keys []ed25519.PublicKey, err error) {
	text = bytes.TrimSpace(text)
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		keys, err = parseKeyList(text)
	case bytes.Contains(text, []byte("-----BEGIN ")):
		keys, err = parsePEM(text)
	default:
		keys, err = parseBase64(text)
	}
	if err == nil && len(keys) == 0 {
		err = badKey("there is none")
	}
	return keys, err
}

func badKey(what string) error {
	return conf.Errorf(conf.CodeUsage, "bad public key: %s", what).
		WithHint("give an Ed25519 public key as PEM, or as the base64 of its 32 bytes; /v1/keys of an agent has both")
}

func parseKeyList(text []byte) (keys []ed25519.PublicKey, err error) {
	var list struct {
		Keys []struct {
			Raw string `json:"public_key"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, badKey("not the answer of /v1/keys")
	}
	for _, k := range list.Keys {
		if keys, err = appendBase64(keys, k.Raw); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func parsePEM(text []byte) (keys []ed25519.PublicKey, err error) {
	text = bytes.ReplaceAll(bytes.Trim(text, `"'`), []byte(`\n`), []byte("\n"))
	marks := bytes.Count(text, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, text = pem.Decode(append(text, '\n')); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, badKey("the PEM block holds a " + block.Type)
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		pub, ok := k.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, badKey("the PEM block is not an Ed25519 key")
		}
		keys = append(keys, pub)
	}
	if len(keys) != marks { // pem.Decode passes over what it cannot read
		return nil, badKey("a PEM block is damaged")
	}
	return keys, nil
}

func parseBase64(text []byte) (keys []ed25519.PublicKey, err error) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if keys, err = appendBase64(keys, line); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func appendBase64(keys []ed25519.PublicKey, text string) ([]ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, badKey("not the base64 of 32 bytes")
	}
	return append(keys, ed25519.PublicKey(raw)), nil
}
