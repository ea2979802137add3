package command

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Version is the format that Encode writes, the first byte of an entry.
const Version = 1

// MaxSize is the largest entry, in bytes: an Edit may carry many services, each
// with a document and a schema.
const MaxSize = 64 << 20

// ErrUnknownVersion says that a newer build wrote the entry. A node must stop
// applying at it: if it skipped the entry, its state would differ.
var ErrUnknownVersion = errors.New("unknown command version")

// Encode returns the bytes of a log entry. It rejects a command that Decode would
// not return byte for byte.
func Encode(c Command) ([]byte, error) {
	if err := check(c); err != nil {
		return nil, err
	}
	var data []byte
	e, fast := c.(*Edit)
	if fast {
		data, fast = fastEncode(e)
	}
	if !fast {
		var err error
		if data, err = marshal(c); err != nil {
			return nil, err
		}
	}
	if len(data) > MaxSize {
		return nil, conf.Errorf(conf.CodeTooLarge, "a change of %d bytes is over the limit of %d", len(data), MaxSize).
			WithHint("change fewer services at once")
	}
	return data, nil
}

func marshal(c Command) ([]byte, error) {
	var b bytes.Buffer
	b.Write([]byte{Version, byte(c.Kind())})
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // escaping would change bytes that a signature covers
	if err := enc.Encode(c); err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "encode a %s: %w", c.Kind(), err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Decode decodes the bytes of Encode.
func Decode(data []byte) (Command, error) {
	if len(data) < 2 {
		return nil, conf.Errorf(conf.CodeMalformed, "log entry of %d bytes is too short", len(data))
	}
	if data[0] != Version {
		return nil, unknownError("format %d", data[0])
	}
	if len(data) > MaxSize {
		return nil, conf.Errorf(conf.CodeTooLarge, "log entry of %d bytes is over the limit of %d", len(data), MaxSize)
	}
	if Kind(data[1]) == KindEdit {
		if e, ok := fastDecode(data); ok {
			return e, nil
		}
	}
	return slowDecode(data)
}

func slowDecode(data []byte) (Command, error) {
	c := newCommand(Kind(data[1]))
	if c == nil {
		return nil, unknownError("kind %d", data[1])
	}
	if err := json.Unmarshal(data[2:], c); err != nil {
		return nil, conf.Errorf(conf.CodeMalformed, "malformed %s: %w", c.Kind(), err)
	}
	// encoding/json accepts unknown and duplicate members, other cases of a name,
	// white space and bad UTF-8; encoding the command again removes all of them.
	again, err := marshal(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		if name := unknownMember(data, again, c.Kind()); name != "" {
			return nil, unknownError("kind %s with %s", c.Kind(), name)
		}
		return nil, conf.Errorf(conf.CodeMalformed, "malformed %s: not in the form that this build writes", c.Kind())
	}
	return c, nil
}

// unknownMember is what encoding/json says of a member that this build does not know, "" when
// it knows them all, or when data lacks members that each build writes: those of again, which
// is what this build makes of it. A newer build has written it: the log has a checksum of each
// entry, so damage does not come here.
func unknownMember(data, again []byte, k Kind) string {
	d := json.NewDecoder(bytes.NewReader(data[2:]))
	d.DisallowUnknownFields()
	err := d.Decode(newCommand(k))
	if err == nil || !strings.Contains(err.Error(), "unknown field") {
		return ""
	}
	var has, known map[string]json.RawMessage
	if json.Unmarshal(data[2:], &has) != nil || json.Unmarshal(again[2:], &known) != nil {
		return ""
	}
	for name := range known {
		if has[name] == nil {
			return ""
		}
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// newCommand returns an empty command, nil for an unknown kind.
func newCommand(k Kind) (c Command) {
	switch k {
	case KindGenesis:
		c = new(Genesis)
	case KindEdit:
		c = new(Edit)
	case KindAudit:
		c = new(Audit)
	case KindCluster:
		c = new(Cluster)
	case KindDigest:
		c = new(Digest)
	case KindKeyring:
		c = new(Keyring)
	case KindReseal:
		c = new(Reseal)
	case KindPrune:
		c = new(Prune)
	case KindAPITokens:
		c = new(APITokens)
	case KindReissue:
		c = new(Reissue)
	case KindRollout:
		c = new(Rollout)
	}
	return c
}

func unknownError(format string, args ...any) error {
	return conf.Errorf(conf.CodeUnsupported, "log entry of "+format+": %w", append(args, ErrUnknownVersion)...).
		WithHint("a newer holdfast wrote it: update this node")
}

func check(c Command) error {
	switch c := c.(type) {
	case *Genesis:
		return checkGenesis(c)
	case *Audit:
		if (c.Source == "") != (c.Seq == 0) {
			return conf.Errorf(conf.CodeInternal, "encode an audit: a source and its number go together")
		}
		return cmp.Or(checkText("audit", c.Source), checkAccess(c.Rows))
	case *Prune:
		return checkPrune(c)
	case *Edit:
		return checkEdit(c)
	case *Cluster:
		return checkCluster(c)
	case *Keyring:
		return checkKeyring(c)
	case *Reseal:
		return checkReseal(c)
	case *APITokens:
		return checkAPITokens(c)
	case *Reissue:
		return checkReissue(c)
	case *Rollout:
		return checkRollout(c)
	case *Digest:
		return cmp.Or(checkTime("at", c.At), checkHash("digest of the state", c.Digest))
	default:
		return conf.Errorf(conf.CodeInternal, "encode a command of type %T", c)
	}
}

func checkGenesis(c *Genesis) error {
	if s := c.Signed; s != nil {
		if s.Epoch != c.Epoch {
			return conf.Errorf(conf.CodeInternal, "encode the genesis of %s: the signed epoch is %s", c.Epoch, s.Epoch)
		}
		if err := checkText("genesis", s.Previous, s.At, s.Signature, s.KeyID); err != nil {
			return err
		}
	}
	return checkText("genesis", c.Epoch, c.At, c.NodeID, c.Reason)
}

func checkEdit(e *Edit) error {
	if err := checkText("edit", e.ID, e.Epoch, e.At, e.By, e.Reason, e.Action); err != nil {
		return err
	}
	for i := range e.Updates {
		if err := checkUpdate(&e.Updates[i]); err != nil {
			return err
		}
	}
	return cmp.Or(
		checkAll(e.Secrets, checkSecret),
		checkAll(e.Schemas, checkSchema),
		checkAll(e.Profiles, checkProfile),
		checkText("edit", e.ProfileDeletes...),
		checkAccess(e.Audit),
	)
}

func checkUpdate(u *Update) error {
	return cmp.Or(
		conf.CheckService(u.Service),
		checkText(u.Service, u.Checksum, u.IssuedAt, u.Signature, u.KeyID, u.UpdatedAt, u.UpdatedBy, u.VersionSignature),
		errors.Join(checkJSON(u.Service+" values", u.Values), checkJSON(u.Service+" config", u.Config)),
	)
}

func checkSchema(s Schema) error {
	if err := conf.CheckService(s.Service); err != nil {
		return err
	}
	if s.Schema == nil {
		return conf.Errorf(conf.CodeInternal, "encode the schema of %s: it is empty", s.Service)
	}
	return checkJSON(s.Service+" schema", s.Schema)
}

func checkProfile(p Profile) error {
	if err := cmp.Or(conf.CheckProfile(p.Name), checkText(p.Name, p.Description)); err != nil {
		return err
	}
	for service, values := range p.Services {
		if err := conf.CheckService(service); err != nil {
			return err
		}
		if values == nil {
			return conf.Errorf(conf.CodeInternal, "encode the profile %s: %s has no values", p.Name, service)
		}
		if err := checkJSON("profile "+p.Name, values); err != nil {
			return err
		}
	}
	return nil
}

func checkAccess(rows []conf.Access) error {
	return checkAll(rows, func(r conf.Access) error {
		return checkText("access log", r.UserID, r.Action, r.Service, r.Key, r.Reason, r.Timestamp)
	})
}

// checkText rejects text that is not valid UTF-8: encoding/json would replace it silently.
func checkText(what string, ss ...string) error {
	for _, s := range ss {
		if !utf8.ValidString(s) {
			return conf.Errorf(conf.CodeInvalid, "%s: text is not valid UTF-8", what)
		}
	}
	return nil
}

// checkJSON rejects JSON text that encoding/json would write in another form.
func checkJSON(what string, m json.RawMessage) error {
	if m == nil || (compact(m) && utf8.Valid(m)) {
		return nil
	}
	var b bytes.Buffer
	b.Grow(len(m))
	if err := json.Compact(&b, m); err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	if !bytes.Equal(b.Bytes(), m) || !utf8.Valid(m) {
		return conf.Errorf(conf.CodeInternal, "encode %s: the JSON text is not in canonical form", what)
	}
	return nil
}
