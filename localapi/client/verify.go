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

// MaxUpdate is the largest size of a signed update.
const MaxUpdate = seal.MaxUpdate

// VerifyUpdate decodes a signed update, the message of topic
// system/config/<service>, and verifies that one of keys signed these very bytes.
// It rejects other encodings of the same content too (another order or
// indentation, another spelling of a number). The code of the error is
// CodeMalformed or CodeTooLarge for a message that is no signed update, CodeCorrupt
// for a changed one, and CodeDenied for one that none of keys signed.
//
// The update may be an old one, or that of another service: compare Service, Epoch
// and IssuedAt.
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

// SignedBy returns the id of the key that signed u.
func SignedBy(u conf.Update, keys ...ed25519.PublicKey) (id string, err error) {
	if len(keys) == 0 {
		return "", conf.Errorf(conf.CodeUsage, "no public key to verify with").WithHint("take those of the cluster from /v1/keys of an agent")
	}
	for _, k := range keys {
		if err = seal.Verify(k, u); err == nil {
			return seal.KeyID(k), nil
		}
		if conf.CodeOf(err) != conf.CodeDenied {
			return "", err // no key can verify it
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
func (c Local) PublicKeys(ctx context.Context) ([]ed25519.PublicKey, error) {
	body, err := c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return ParseKeys(body)
}

// ParseKeys reads Ed25519 public keys in any form that Holdfast writes: PEM blocks
// (also with "\n" for line breaks, as in a .env file), the base64 of the 32 bytes,
// one a line, or the response of /v1/keys. Lines that start with "#" are comments.
// A text without a key is an error.
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
	if len(keys) != marks { // pem.Decode skips damaged blocks
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
