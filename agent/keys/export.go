package keys

import (
	"encoding/base64"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// Export returns the set as NAME=value lines, in the order in which Load writes them.
// A server that joins receives them over the cluster port. They contain secrets.
func (s Set) Export() ([]string, error) {
	values := map[string]string{
		EnvMasterKey: encode(s.Master), EnvMasterID: s.MasterID,
		EnvHMACKey: encode(s.HMAC), EnvHMACID: s.HMACID,
		EnvRebuildToken: s.RebuildToken, EnvAPITokens: encodeTokens(s.Tokens),
		EnvMasterOldKey: encode(s.OldMaster), EnvMasterOldID: s.OldMasterID,
		EnvHMACOldKey: encode(s.OldHMAC), EnvHMACOldID: s.OldHMACID,
		EnvPrivateKey: encodePrivate(s.Private), EnvPublicKey: encodePublic(s.Public),
		EnvPrivateOldKey: encodePrivate(s.OldPrivate), EnvPublicOldKey: encodePublic(s.OldPublic),
	}
	var lines []string
	for _, name := range allNames() {
		if values[name] == "" {
			continue
		}
		l, err := line(name, values[name])
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// SidecarLines returns what a sidecar of a service receives: the public keys, and the
// keys derived from the master keys for that service. Without a service it has
// nothing secret.
func (s Set) SidecarLines(service string) ([]string, error) {
	var lines []string
	if len(s.Public) > 0 {
		lines = append(lines, EnvPublicKey+"="+quote(encodePublic(s.Public)))
		if len(s.OldPublic) > 0 {
			lines = append(lines, EnvPublicOldKey+"="+quote(encodePublic(s.OldPublic)))
		}
	}
	if service == "" || len(s.Master) == 0 {
		return lines, nil
	}
	for _, of := range []struct{ id, keyName, idName string }{
		{s.MasterID, EnvServiceKey, EnvServiceID}, {s.OldMasterID, EnvServiceOldKey, EnvServiceOldID},
	} {
		if of.id == "" {
			continue
		}
		derived, err := s.SecretKey(service, of.id)
		if err != nil {
			return nil, err
		}
		lines = append(lines, of.keyName+"="+encode(derived), of.idName+"="+of.id)
	}
	return lines, nil
}

// WrapServiceKey returns the key derived for a service from the master key next, wrapped
// under the one derived from the master key have: only a sidecar that has that one can
// unwrap it.
func (s Set) WrapServiceKey(service, have, next string) (string, error) {
	old, err := s.SecretKey(service, have)
	if err != nil {
		return "", err
	}
	key, err := s.SecretKey(service, next)
	if err != nil {
		return "", err
	}
	return seal.SealSecret(old, wrapID(service, have, next), key)
}

// UnwrapServiceKey unwraps what WrapServiceKey wrapped for this sidecar.
func (s Set) UnwrapServiceKey(service, next, sealed string) (Material, error) {
	m := Material{Kind: conf.KeyMaster, ID: next}
	key, err := seal.OpenSecret(s.ServiceKey, wrapID(service, s.ServiceKeyID, next), sealed)
	m.Value = encode(key)
	return m, err
}

func wrapID(service, have, next string) seal.SecretID {
	return seal.SecretID{Epoch: "handed on", Service: service, Key: next, KeyID: have}
}

// ServiceKeyMaterial returns the key of a sidecar's own service, which a server derived
// from the master key id.
func ServiceKeyMaterial(id, value string) (Material, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(key) != keySize {
		return Material{}, conf.Errorf(conf.CodeMalformed, "the received key of the service is not the base64 of %d bytes", keySize)
	}
	return Material{Kind: conf.KeyMaster, ID: id, Value: value}, nil
}
