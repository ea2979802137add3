package keys

import (
	"bytes"
	"encoding/base64"
	"maps"
	"regexp"

	"github.com/joho/godotenv"
)

// SalvageEnvFile reads the lines of a .env file that can be read, each by itself: a
// damaged one, such as one with a quote that is not closed, does not take the others away.
// A file that cannot be read has none.
func SalvageEnvFile(path string) map[string]string {
	content := salvageContent(path)
	if vars, err := parseEnv(content, path); err == nil {
		return vars
	}
	vars := map[string]string{}
	for line := range bytes.Lines(content) {
		if one, err := godotenv.UnmarshalBytes(line); err == nil {
			maps.Copy(vars, one)
		}
	}
	return vars
}

func salvageContent(path string) []byte {
	if path == "" {
		return nil
	}
	content, err := readContent(path)
	if err != nil {
		return nil
	}
	return content
}

// Salvage returns the keys that open what an agent has on its disk: the master keys, or a
// sidecar's service keys, the public keys and the API tokens, as far as they can be read.
// hmacs are all values that may be the key of the last-known-good file: the right one
// verifies it. Nothing is generated or written.
func Salvage(env func(string) (string, bool), envFile string) (set Set, hmacs [][]byte) {
	src := source{env, SalvageEnvFile(envFile), envFile}
	read := func(part func(l *loader)) {
		l := loader{source: src}
		part(&l)
	}
	read(func(l *loader) { set.Master, set.MasterID = l.key(EnvMasterKey, EnvMasterID) })
	read(func(l *loader) {
		set.OldMaster, set.OldMasterID = l.oldKey(EnvMasterOldKey, EnvMasterOldID, set.MasterID)
	})
	read(func(l *loader) { set.ServiceKey, set.ServiceKeyID = l.key(EnvServiceKey, EnvServiceID) })
	read(func(l *loader) {
		set.OldServiceKey, set.OldServiceKeyID = l.oldKey(EnvServiceOldKey, EnvServiceOldID, set.ServiceKeyID)
	})
	read(func(l *loader) { set.Public = l.public(EnvPublicKey) })
	read(func(l *loader) { set.OldPublic = l.public(EnvPublicOldKey) })
	read(func(l *loader) { set.Tokens = l.tokens() })
	for _, name := range []string{EnvHMACKey, EnvHMACOldKey} {
		text, _ := src.get(name)
		hmacs = append(hmacs, keysIn(text)...)
	}
	return set, append(hmacs, hmacKeysIn(salvageContent(envFile))...)
}

// keyText is the base64 of a key.
var keyText = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)

func keysIn(text string) (out [][]byte) {
	for _, m := range keyText.FindAllString(text, -1) {
		if key, err := base64.StdEncoding.DecodeString(m); err == nil {
			out = append(out, key)
		}
	}
	return out
}

// hmacKeysIn finds the keys of the last-known-good file in a .env file of which any byte
// outside of the key may be wrong: those of its name, or the ends of its line. A comment
// has none, except the heading that was a line by itself: a key that was taken out of use
// must not come back.
func hmacKeysIn(content []byte) (out [][]byte) {
	for _, at := range keyText.FindAllIndex(content, -1) {
		before := content[:at[0]]
		line := before[bytes.LastIndexByte(before, '\n')+1:]
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) && !bytes.Contains(line, []byte(headingEnd)) {
			continue
		}
		for _, name := range []string{EnvHMACKey, EnvHMACOldKey} {
			if endsLike(before, name) {
				out = append(out, keysIn(string(content[at[0]:at[1]]))...)
			}
		}
	}
	return out
}

// maxWrong is how many bytes of a name and of what separates it from the value may differ.
const maxWrong = 2

// endsLike reports whether text ends with the name and a separator.
func endsLike(text []byte, name string) bool {
	for separator := 1; separator <= 3; separator++ { // = with a quote or a space
		if len(text) < len(name)+separator {
			return false
		}
		wrong := 0
		got := text[len(text)-len(name)-separator:]
		for i := range len(name) {
			if got[i] != name[i] {
				wrong++
			}
		}
		if wrong <= maxWrong {
			return true
		}
	}
	return false
}
