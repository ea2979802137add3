package keys

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Export gives the whole set as NAME=value lines, in the order in which Load writes them: what a
// server hands to a server that joins, over the cluster's own channel. What the
// set does not have is left out. The lines hold secrets.
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

// SidecarLines gives what a sidecar of a service receives: the public keys, and
// what is derived of the master keys for that service. Without a service it gets
// nothing secret.
func (s Set) SidecarLines(service string) ([]string, error) {
	lines := s.PublicLines()
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

// PublicLines gives the keys that verify. Nothing in them is secret.
func (s Set) PublicLines() []string {
	if len(s.Public) == 0 {
		return nil
	}
	lines := []string{EnvPublicKey + "=" + quote(encodePublic(s.Public))}
	if len(s.OldPublic) > 0 {
		lines = append(lines, EnvPublicOldKey+"="+quote(encodePublic(s.OldPublic)))
	}
	return lines
}

// Import adds the lines that a joining agent received (Export or SidecarLines) to
// its envFile, with the care that Load takes: under the file's lock, 0600,
// atomically, durably, the user's own lines kept. It adds nothing that env or the
// file has already with the same value, and changes nothing at all (CodeConflict)
// when one of them has another value. It is safe to call again.
func Import(env func(string) (string, bool), envFile string, lines []string, opts Options) error {
	opts = opts.withDefaults()
	given, err := parseLines(lines)
	if err != nil {
		return err
	}
	file, err := readEnvFile(envFile)
	if err != nil {
		return err
	}
	missing, err := compare(source{env, file, envFile}, given)
	if err != nil || len(missing) == 0 {
		return err
	}
	target, err := lockEnvFile(envFile, opts.LockTimeout)
	if err != nil {
		if conf.CodeOf(err) == conf.CodeLocked {
			return err
		}
		return cannotKeep(envFile, missing, err)
	}
	defer target.close()
	content, err := readContent(target.path)
	if err != nil {
		return err
	}
	if file, err = parseEnv(content, envFile); err != nil {
		return err
	}
	if missing, err = compare(source{env, file, envFile}, given); err != nil || len(missing) == 0 {
		return err
	}
	add := make([]string, 0, len(missing))
	for _, name := range missing {
		l, err := line(name, given[name])
		if err != nil {
			return err
		}
		add = append(add, l)
	}
	block := header(content, "Received from the cluster by holdfast") + strings.Join(add, "\n") + "\n"
	// Proven before it is written: every line reads back as it was received.
	if file, err = parseEnv(append(content[:len(content):len(content)], block...), envFile); err != nil {
		return err
	}
	still, err := compare(source{env, file, envFile}, given)
	if err != nil || len(still) > 0 {
		return notReadBack(envFile, missing[0])
	}
	stored, err := target.appendBlock(content, block)
	switch {
	case err != nil && stored:
		return notDurable(envFile, err)
	case err != nil:
		return cannotKeep(envFile, missing, err)
	}
	return nil
}

// parseLines reads lines from another agent. Each must be one variable of ours,
// and all of them together a valid set: what is wrong with them must show before
// anything is stored.
func parseLines(lines []string) (map[string]string, error) {
	bad := func(i int, why string) error {
		return conf.Errorf(conf.CodeMalformed, "line %d of the received keys %s", i+1, why).
			WithHint("run the same version of holdfast on all agents, then join again")
	}
	given := map[string]string{}
	for i, l := range lines {
		vars, err := godotenv.Unmarshal(l) // its error would quote the line
		if err != nil || len(vars) != 1 {
			return nil, bad(i, "is not one NAME=value")
		}
		for name, value := range vars {
			_, twice := given[name]
			switch {
			case !slices.Contains(allNames(), name):
				return nil, bad(i, "is not of a variable that this build knows")
			case twice:
				return nil, bad(i, "is of a variable that came before")
			case strings.TrimSpace(value) == "":
				return nil, bad(i, "is empty")
			}
			given[name] = value
		}
	}
	if len(given) == 0 {
		return nil, conf.Errorf(conf.CodeMalformed, "the cluster sent no keys").WithHint("update the agent that you join, then join again")
	}
	role := conf.MemberSidecar
	if given[EnvPrivateKey] != "" || given[EnvMasterKey] != "" {
		role = conf.MemberServer
	}
	src := source{file: given, path: "the received keys"}
	_, missing, err := build(src, role)
	if err != nil {
		return nil, err
	}
	if role == conf.MemberServer && len(missing) > 0 {
		return nil, conf.Errorf(conf.CodeMalformed, "the received keys lack %s", strings.Join(missing, ", ")).
			WithHint("look at the keys of the agent that you join, then join again")
	}
	return given, nil
}

// compare names the given variables that src lacks. Those that it has with
// another value are an error.
func compare(src source, given map[string]string) (missing []string, err error) {
	names := slices.DeleteFunc(allNames(), func(name string) bool { return given[name] == "" })
	if err := refusePlaceholders(src, names); err != nil {
		return nil, err
	}
	var differ []string
	var details []conf.FieldError
	for _, name := range names {
		value, where := src.get(name)
		switch {
		case value == "":
			missing = append(missing, name)
		case canonical(name, value) != canonical(name, given[name]):
			differ = append(differ, name)
			details = append(details, conf.FieldError{Key: name, Message: "has another value in " + where})
		}
	}
	if differ == nil {
		return missing, nil
	}
	e := conf.Errorf(conf.CodeConflict, "this agent has other keys than the cluster: %s", strings.Join(differ, ", ")).
		WithHint("if nothing needs this agent's own keys any more, delete these variables and join again; else join with another CONFIG_ENV_FILE and data directory")
	e.Details = details
	return nil, e
}

// canonical gives values that mean the same the same text.
func canonical(name, value string) string {
	value = strings.TrimSpace(value)
	switch name {
	case EnvServiceID, EnvServiceOldID, EnvMasterID, EnvHMACID, EnvMasterOldID, EnvHMACOldID:
		if id, err := uuid.Parse(value); err == nil {
			return id.String()
		}
	case EnvPrivateKey, EnvPrivateOldKey:
		if der := decodePEM(value, "PRIVATE KEY"); der != nil {
			return string(der)
		}
	case EnvPublicKey, EnvPublicOldKey:
		if der := decodePEM(value, "PUBLIC KEY"); der != nil {
			return string(der)
		}
	case EnvAPITokens:
		if tokens, err := parseTokens(value, ""); err == nil {
			slices.SortFunc(tokens, func(a, b Token) int { return strings.Compare(a.Token, b.Token) })
			return encodeTokens(tokens)
		}
	}
	return value
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
