package seal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Format is the version of the signed message: the "version" of an update.
const Format = 1

// MaxUpdate is the largest message that DecodeUpdate accepts: the largest document
// with the defaults of the largest schema fits.
const MaxUpdate = 4 * conf.MaxDocument

// Checksum returns the lower-case hex SHA-256 of canonical bytes.
func Checksum(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}

// KeyID returns the id of a public key: the first 16 hex digits of the SHA-256 of
// its 32 bytes.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// Signer signs updates with one private key. The zero Signer is not usable.
type Signer struct {
	private ed25519.PrivateKey
	id      string
}

// NewSigner returns a Signer with a whole (64-byte) Ed25519 private key.
func NewSigner(private ed25519.PrivateKey) *Signer {
	return &Signer{private: private, id: KeyID(private.Public().(ed25519.PublicKey))}
}

// KeyID returns the id of the Signer's key.
func (s *Signer) KeyID() string { return s.id }

// Sign returns the signed update of one document, over
// version|service|JCS(config)|checksum|config_epoch|issued_at. config must be an
// object in canonical form, and service and epoch must be valid: Sign does not check
// them, but Verify does.
func (s *Signer) Sign(service string, config []byte, epoch string, at time.Time) conf.Update {
	u := conf.Update{
		Version: Format, Service: service, Config: config, Checksum: Checksum(config),
		Epoch: epoch, IssuedAt: conf.FormatTime(at),
	}
	u.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(s.private, joinSigned(u, config)))
	return u
}

// Verify checks the checksum and the signature of u. A message that does not match
// its checksum is CodeCorrupt, one without a signature by pub is CodeDenied.
func Verify(pub ed25519.PublicKey, u conf.Update) error {
	if err := checkParts(u); err != nil {
		return damagedError(u.Service, err)
	}
	canonical, err := canonicalConfig(u.Config)
	if err != nil {
		return damagedError(u.Service, err)
	}
	return verify(pub, u, canonical)
}

// VerifyRecord is Verify for the update of r. It does not parse r.Config: its
// checksum covers the canonical form. A record that was never configured (version 0,
// no document) has nothing to verify.
func VerifyRecord(pub ed25519.PublicKey, r *conf.Record) error {
	if r.Version == 0 && r.Config == nil && r.Signature == "" {
		return nil
	}
	u := r.Update()
	if err := checkParts(u); err != nil {
		return damagedError(r.Service, err)
	}
	err := verify(pub, u, r.Config)
	id := KeyID(pub)
	switch {
	case r.KeyID == "" || r.KeyID == id:
		return err
	case err == nil:
		return conf.Errorf(conf.CodeCorrupt, "configuration of %q names key %q, but key %s signed it", u.Service, conf.Clip(r.KeyID), id)
	case conf.CodeOf(err) == conf.CodeDenied:
		return conf.Errorf(conf.CodeDenied, "configuration of %q is signed by key %q, not by %s", u.Service, conf.Clip(r.KeyID), id).
			WithHint("use the CONFIG_SIGNATURE_PUBLIC_KEY that belongs to the key which signed it")
	}
	return err
}

func verify(pub ed25519.PublicKey, u conf.Update, canonical []byte) error {
	if len(canonical) == 0 || canonical[0] != '{' {
		return conf.Errorf(conf.CodeCorrupt, "configuration of %q is not an object", u.Service)
	}
	if Checksum(canonical) != u.Checksum {
		return conf.Errorf(conf.CodeCorrupt, "configuration of %q does not match its checksum", u.Service)
	}
	sig, ok := decodeSignature(u.Signature)
	if !ok {
		return conf.Errorf(conf.CodeCorrupt, "signature of %q is not the base64 of %d bytes", u.Service, ed25519.SignatureSize)
	}
	if len(pub) != ed25519.PublicKeySize {
		return conf.Errorf(conf.CodeDenied, "no public key to verify %q with", u.Service).
			WithHint("set CONFIG_SIGNATURE_PUBLIC_KEY")
	}
	if !ed25519.Verify(pub, joinSigned(u, canonical), sig) {
		return conf.Errorf(conf.CodeDenied, "signature of %q is not by key %s", u.Service, KeyID(pub)).
			WithHint("the message was changed, or CONFIG_SIGNATURE_PUBLIC_KEY is not the key of this cluster")
	}
	return nil
}

func damagedError(service string, err error) error {
	return conf.Errorf(conf.CodeCorrupt, "signed configuration of %q is damaged: %w", conf.Clip(service), err)
}

func joinSigned(u conf.Update, canonical []byte) []byte {
	b := make([]byte, 0, len(canonical)+len(u.Service)+len(u.Checksum)+len(u.Epoch)+len(u.IssuedAt)+24)
	b = append(strconv.AppendInt(b, int64(u.Version), 10), '|')
	b = append(append(b, u.Service...), '|')
	b = append(append(b, canonical...), '|')
	b = append(append(b, u.Checksum...), '|')
	b = append(append(b, u.Epoch...), '|')
	return append(b, u.IssuedAt...)
}

// checkParts checks that the parts around config have their one spelling and no "|",
// so that no two updates have the same signed bytes.
func checkParts(u conf.Update) error {
	if u.Version != Format {
		return conf.Errorf(conf.CodeInvalid, "message format %d is not %d", u.Version, Format).
			WithHint("upgrade the reader to a release that supports this format")
	}
	if err := conf.CheckService(u.Service); err != nil {
		return err
	}
	if !isHex(u.Checksum, 2*sha256.Size) {
		return conf.Errorf(conf.CodeInvalid, "checksum is not %d lower-case hex digits", 2*sha256.Size)
	}
	if !isName(u.Epoch) {
		return conf.Errorf(conf.CodeInvalid, "bad config_epoch %q", conf.Clip(u.Epoch)).WithHint("it is a UUID")
	}
	at, err := conf.ParseTime(u.IssuedAt)
	if err != nil {
		return err
	}
	if want := conf.FormatTime(at); want != u.IssuedAt {
		return conf.Errorf(conf.CodeInvalid, "issued_at %q is not written as %q", conf.Clip(u.IssuedAt), want)
	}
	return nil
}

func canonicalConfig(raw []byte) ([]byte, error) {
	canonical, err := CanonicalJSON(raw)
	if err != nil {
		return nil, err
	}
	if canonical[0] != '{' {
		return nil, conf.Errorf(conf.CodeInvalid, "config is not an object")
	}
	return canonical, nil
}

func decodeSignature(s string) ([]byte, bool) {
	var buf [ed25519.SignatureSize + 2]byte
	if len(s) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
		return nil, false
	}
	// The decoder skips line ends, so the result may be short.
	n, err := base64.StdEncoding.Strict().Decode(buf[:], []byte(s))
	return buf[:n], err == nil && n == ed25519.SignatureSize
}

func isHex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" }

// isName accepts a UUID and any other name of letters, digits and hyphens.
func isName(s string) bool {
	if s == "" || len(s) > conf.MaxName {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' {
			return false
		}
	}
	return true
}

// EncodeUpdate encodes u as the JSON message of topic system/config/<service>. It
// copies the bytes of config unchanged.
func EncodeUpdate(u conf.Update) ([]byte, error) {
	if !json.Valid(u.Config) {
		return nil, conf.Errorf(conf.CodeInvalid, "config of %q is not JSON", conf.Clip(u.Service))
	}
	b := make([]byte, 0, len(u.Config)+512)
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, int64(u.Version), 10)
	b = AppendString(append(b, `,"service":`...), u.Service)
	b = append(append(b, `,"config":`...), u.Config...)
	b = AppendString(append(b, `,"checksum":`...), u.Checksum)
	b = AppendString(append(b, `,"config_epoch":`...), u.Epoch)
	b = AppendString(append(b, `,"issued_at":`...), u.IssuedAt)
	b = AppendString(append(b, `,"signature":`...), u.Signature)
	return append(b, '}'), nil
}

// DecodeUpdate decodes a signed message: exactly the seven members, each once and of
// its type. It does not verify the signature: call Verify.
func DecodeUpdate(data []byte) (conf.Update, error) {
	// One level more than conf.DecodeStrict allows: config may use all of them.
	v, err := conf.ParseJSONDepth(data, MaxUpdate, conf.MaxDepth+1)
	if err != nil {
		return conf.Update{}, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return conf.Update{}, conf.Errorf(conf.CodeMalformed, "a signed update is a JSON object")
	}
	if _, ok := m["config"].(map[string]any); !ok {
		return conf.Update{}, wrongMember("config", "an object")
	}
	number, ok := m["version"].(json.Number)
	if !ok {
		return conf.Update{}, wrongMember("version", "an integer")
	}
	version, err := strconv.Atoi(string(number))
	if err != nil {
		return conf.Update{}, wrongMember("version", "an integer")
	}
	u := conf.Update{Version: version}
	texts := map[string]*string{
		"service": &u.Service, "checksum": &u.Checksum, "config_epoch": &u.Epoch,
		"issued_at": &u.IssuedAt, "signature": &u.Signature,
	}
	for _, name := range conf.SortedKeys(texts) {
		text, ok := m[name].(string)
		if !ok {
			return conf.Update{}, wrongMember(name, "a string")
		}
		*texts[name] = text
	}
	if len(m) != len(texts)+2 {
		for _, name := range conf.SortedKeys(m) {
			if texts[name] == nil && name != "config" && name != "version" {
				return conf.Update{}, conf.Errorf(conf.CodeMalformed, "unknown member %q in a signed update", conf.Clip(name))
			}
		}
	}
	// The exact names are checked, so this finds the same member.
	var raw struct {
		Config json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return conf.Update{}, conf.Errorf(conf.CodeMalformed, "malformed JSON: %w", err)
	}
	u.Config = raw.Config
	return u, nil
}

func wrongMember(name, want string) error {
	return conf.Errorf(conf.CodeMalformed, "member %q of a signed update is missing or not %s", name, want)
}
