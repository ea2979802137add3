package localapi

// EnvFile writes an effective document as /v1/env does: lines for POSIX sh and the dotenv
// readers, with prefix before each name.
func EnvFile(config []byte, prefix string) (string, error) {
	d := &derivedForms{config: config}
	if d.get(); d.err != nil {
		return "", d.err
	}
	return formatShell(d.vars, prefix), nil
}
