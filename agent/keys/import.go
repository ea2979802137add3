package keys

import (
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/joho/godotenv"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Import adds the lines that a joining agent received (Export or SidecarLines) to
// envFile, in the way of Load: under the file's lock, 0600, atomically, durably, with
// the operator's lines kept. It skips what env or the file has with the same value, and
// changes nothing (CodeConflict) when one of them has another value. It is safe to
// call again.
func Import(env func(string) (string, bool), envFile string, lines []string, opts Options) error {
	opts = opts.withDefaults()
	given, err := parseLines(lines)
	if err != nil {
		return err
	}
	file, err := ReadEnvFile(envFile)
	if err != nil {
		return err
	}
	src := source{env, file, envFile}
	missing, err := compare(src, given)
	if err != nil || len(missing) == 0 {
		return err
	}
	cannot := func(cause error) error { return cannotStore(envFile, missing, cause) }
	return editEnvFile(src, opts, cannot, func(content []byte, src source) ([]byte, string, error) {
		// Another process may have imported the lines before this one had the lock.
		if missing, err = compare(src, given); err != nil || len(missing) == 0 {
			return nil, "", err
		}
		var add []string
		for _, name := range missing {
			l, err := line(name, given[name])
			if err != nil {
				return nil, "", err
			}
			add = append(add, l)
		}
		next, block, after, err := appendLines(content, src, "Received from the cluster by holdfast", add)
		if err != nil {
			return nil, "", err
		}
		// Every line must read back as it was received.
		if still, err := compare(after, given); err != nil || len(still) > 0 {
			return nil, "", notReadBack(envFile, missing[0])
		}
		return next, block, nil
	})
}

// parseLines reads lines from another agent. Each must be one variable of this
// package, and together they must be a valid set, before anything is stored.
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
				return nil, bad(i, "has a variable that this build does not support")
			case twice:
				return nil, bad(i, "repeats a variable")
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
			WithHint("check the keys of the agent that you join, then join again")
	}
	return given, nil
}

// compare returns the given variables that src lacks. One that src has with another
// value is an error.
func compare(src source, given map[string]string) (missing []string, err error) {
	names := slices.DeleteFunc(allNames(), func(name string) bool { return given[name] == "" })
	if err := rejectPlaceholders(src, names); err != nil {
		return nil, err
	}
	var differ []string
	var details []conf.FieldError
	for _, name := range names {
		value, where := src.get(name)
		switch {
		case value == "":
			missing = append(missing, name)
		case normalize(name, value) != normalize(name, given[name]):
			differ = append(differ, name)
			details = append(details, conf.FieldError{Key: name, Message: "has another value in " + where})
		}
	}
	if differ == nil {
		return missing, nil
	}
	e := conf.Errorf(conf.CodeConflict, "this agent has other keys than the cluster: %s", strings.Join(differ, ", ")).
		WithHint("if this agent's own keys are not needed, delete these variables and join again; otherwise join with another CONFIG_ENV_FILE and data directory")
	e.Details = details
	return nil, e
}

// normalize returns the same text for values that mean the same.
func normalize(name, value string) string {
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
