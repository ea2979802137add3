package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"

	"github.com/google/uuid"
	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	keySize  = 32
	minToken = 16 // a shorter one is accepted with a warning
	maxToken = 512
)

// symmetricKey reads a key and its id. It rejects an id without a key: another key
// with that id could not open what the first one sealed.
func symmetricKey(src source, keyName, idName string) (key []byte, id string, missing []string, err error) {
	text, where := src.get(keyName)
	id, idWhere := src.get(idName)
	id = strings.TrimSpace(id)
	if text == "" {
		if id != "" {
			return nil, "", nil, conf.Errorf(conf.CodeInvalid, "%s is set in %s, but %s is not set", idName, idWhere, keyName).
				WithHint("set the key that this id names, or delete %s to have both generated", idName)
		}
		return nil, "", []string{keyName, idName}, nil
	}
	key, err = base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != keySize {
		// The cause would quote a part of the key.
		return nil, "", nil, conf.Errorf(conf.CodeInvalid, "%s in %s is not the base64 of %d bytes", keyName, where, keySize).
			WithHint("make one with `openssl rand -base64 32`")
	}
	if bytes.Count(key, key[:1]) == keySize {
		return nil, "", nil, conf.Errorf(conf.CodeInvalid, "%s in %s repeats one byte: that is no key", keyName, where).
			WithHint("make one with `openssl rand -base64 32`")
	}
	if id == "" {
		return key, "", []string{idName}, nil
	}
	parsed, err := uuid.Parse(id)
	switch {
	case err != nil || len(id) != 36:
		return nil, "", nil, conf.Errorf(conf.CodeInvalid, "%s in %s is not a UUID", idName, idWhere).
			WithHint("make one with `uuidgen`, or delete %s to have one generated", idName)
	case parsed == uuid.Nil:
		return nil, "", nil, conf.Errorf(conf.CodeInvalid, "%s in %s is the all-zero example", idName, idWhere).
			WithHint("make one with `uuidgen`, or delete %s to have one generated", idName)
	}
	return key, parsed.String(), nil, nil
}

// keyPair reads the signing keys. The public one is derived from the private one.
func keyPair(src source, privName, pubName string) (private ed25519.PrivateKey, public ed25519.PublicKey, missing []string, err error) {
	privText, privWhere := src.get(privName)
	pubText, pubWhere := src.get(pubName)
	if privText == "" {
		if pubText != "" {
			return nil, nil, nil, conf.Errorf(conf.CodeInvalid, "%s is set in %s, but %s is not set", pubName, pubWhere, privName).
				WithHint("set the private key that it belongs to, or delete %s to have a new pair generated", pubName)
		}
		return nil, nil, []string{privName, pubName}, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(decodePEM(privText, "PRIVATE KEY"))
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, nil, nil, badPEM(privName, privWhere, "PRIVATE KEY", "openssl genpkey -algorithm ed25519")
	}
	public = private.Public().(ed25519.PublicKey)
	if pubText == "" {
		return private, public, nil, nil
	}
	given, err := publicKey(pubName, pubText, pubWhere)
	if err != nil {
		return nil, nil, nil, err
	}
	if !public.Equal(given) {
		return nil, nil, nil, conf.Errorf(conf.CodeInvalid, "%s in %s does not belong to %s in %s", pubName, pubWhere, privName, privWhere).
			WithHint("delete %s: it is derived from the private key", pubName)
	}
	return private, public, nil, nil
}

func publicKey(name, text, where string) (ed25519.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(decodePEM(text, "PUBLIC KEY"))
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, badPEM(name, where, "PUBLIC KEY", "openssl pkey -pubout")
	}
	return key, nil
}

// decodePEM accepts line ends and \n escapes, and the quotes that tools such as docker
// leave in an environment variable.
func decodePEM(text, kind string) []byte {
	text = strings.TrimSpace(text)
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		text = text[1 : len(text)-1]
	}
	text = strings.NewReplacer(`\r\n`, "\n", `\n`, "\n", "\r\n", "\n").Replace(text)
	block, rest := pem.Decode([]byte(strings.TrimSpace(text) + "\n"))
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) > 0 {
		return nil
	}
	return block.Bytes
}

func badPEM(name, where, kind, command string) error {
	return conf.Errorf(conf.CodeInvalid, "%s in %s is not an Ed25519 key in PEM form (%s)", name, where, kind).
		WithHint("make one with `%s` and write its line ends as \\n inside of double quotes", command)
}

// parseTokens reads "token:role,token:role". Its errors count entries and never
// quote them.
func parseTokens(text, where string) ([]Token, error) {
	var out []Token
	seen := map[string]int{}
	for i, part := range strings.Split(strings.TrimSpace(text), ",") {
		part = strings.TrimSpace(part)
		bad := func(format string, args ...any) error {
			return conf.Errorf(conf.CodeInvalid, "entry %d of %s in %s "+format, append([]any{i + 1, EnvAPITokens, where}, args...)...).
				WithHint("write token:role,token:role with roles %s, %s and %s", conf.RoleRead, conf.RoleWrite, conf.RoleReport)
		}
		at := strings.LastIndexByte(part, ':')
		if at < 0 {
			return nil, bad("has no role")
		}
		token, role := strings.TrimSpace(part[:at]), conf.Role(strings.TrimSpace(part[at+1:]))
		switch {
		case token == "":
			return nil, bad("has an empty token")
		case !isToken(token):
			return nil, bad("holds spaces, control characters, letters outside of ASCII, or more than %d characters", maxToken)
		case conf.CheckRole(role) != nil:
			return nil, bad("has an unknown role")
		}
		if first, dup := seen[token]; dup {
			return nil, bad("has the same token as entry %d", first)
		}
		seen[token] = i + 1
		out = append(out, Token{token, conf.Principal{Name: principalName(token), Role: role}})
	}
	return out, nil
}

// isToken reports whether an HTTP header can contain s.
func isToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func badToken(name, where string) error {
	return conf.Errorf(conf.CodeInvalid, "%s in %s holds spaces, control characters, letters outside of ASCII, or more than %d characters", name, where, maxToken).
		WithHint("make one with `openssl rand -hex 32`")
}

// generate returns lines for the missing variables.
func generate(missing []string) []string {
	private := ed25519.NewKeyFromSeed(random())
	token := func(prefix string) string { return prefix + base64.RawURLEncoding.EncodeToString(random()) }
	lines := make([]string, 0, len(missing))
	for _, name := range missing {
		var value string
		switch name {
		case EnvMasterKey, EnvHMACKey:
			value = encode(random())
		case EnvMasterID, EnvHMACID:
			value = uuid.NewString()
		case EnvPrivateKey:
			value = quote(encodePrivate(private))
		case EnvPublicKey:
			value = quote(encodePublic(private.Public().(ed25519.PublicKey)))
		case EnvRebuildToken:
			value = token("hf_rebuild_")
		case EnvAPITokens:
			value = `"` + token("hf_read_") + ":" + string(conf.RoleRead) + "," + token("hf_write_") + ":" + string(conf.RoleWrite) + `"`
		}
		lines = append(lines, name+"="+value)
	}
	return lines
}

// random returns 256 bits. crypto/rand crashes the process when it has none.
func random() []byte {
	b := make([]byte, keySize)
	_, _ = rand.Read(b)
	return b
}

// must is for encodings of a valid key, which cannot fail.
func must(der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return der
}

func encode(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	return base64.StdEncoding.EncodeToString(key)
}

func encodePrivate(key ed25519.PrivateKey) string {
	if len(key) == 0 {
		return ""
	}
	return encodePEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

func encodePublic(key ed25519.PublicKey) string {
	if len(key) == 0 {
		return ""
	}
	return encodePEM("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key)))
}

func encodeTokens(tokens []Token) string {
	parts := make([]string, 0, len(tokens))
	for _, t := range tokens {
		parts = append(parts, t.Token+":"+string(t.Principal.Role))
	}
	return strings.Join(parts, ",")
}

func encodePEM(kind string, der []byte) string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// line formats a variable so that a .env file reads it back. It quotes only where
// needed, with single quotes where possible, so that a shell reads the same. A few
// values cannot be in a file, such as one that begins with one kind of quote and ends
// with the other.
func line(name, value string) (string, error) {
	forms := []string{value, "'" + value + "'", quote(value), strings.ReplaceAll(value, "$", `\$`)}
	for i, f := range forms {
		if strings.ContainsAny(f, "\r\n") || (i == 0 && strings.ContainsFunc(f, special)) {
			continue
		}
		if vars, err := godotenv.Unmarshal(name + "=" + f + "\n#\n"); err == nil && len(vars) == 1 && vars[name] == value {
			return name + "=" + f, nil
		}
	}
	return "", conf.Errorf(conf.CodeInvalid, "the value of %s cannot be written to a .env file", name).
		WithHint("use one of letters and digits, such as `openssl rand -hex 32` makes")
}

// special reports whether r may have a meaning in a shell.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-+/=.:,@%", r)
}

func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`).Replace(value) + `"`
}
