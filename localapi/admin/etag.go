package admin

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// tag is the ETag of a record: version, start of the epoch and of the checksum.
// The stored values of a version are another representation than its effective
// document, with a tag of its own.
func tag(rec *conf.Record, stored bool) string {
	suffix := ""
	if stored {
		suffix = "-stored"
	}
	return fmt.Sprintf(`"%d-%.8s-%.16s%s"`, rec.Version, rec.Epoch, rec.Checksum, suffix)
}

// matches says whether the If-None-Match header names tag.
func matches(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == tag || part == "*" {
			return true
		}
	}
	return false
}

// expect tells which version the caller saw: from the body, the parameter
// version, or If-Match. They may not contradict each other. nil is any version.
func (h *Handler) expect(c *call, inBody *uint64) (*uint64, error) {
	out := inBody
	add := func(v uint64) error {
		if out != nil && *out != v {
			return conf.Errorf(conf.CodeMalformed, "two different expected versions, %d and %d", *out, v).
				WithHint("give it once")
		}
		out = &v
		return nil
	}
	if c.query.Has("version") {
		v, err := c.number("version", 0, conf.MaxInteger, 0)
		if err != nil {
			return nil, err
		}
		if err := add(v); err != nil {
			return nil, err
		}
	}
	given := c.r.Header.Values("If-Match")
	if len(given) == 0 {
		return out, nil
	}
	text := strings.TrimSpace(strings.Join(given, ","))
	bare := text
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		bare = text[1 : len(text)-1]
	}
	number, rest, full := strings.Cut(bare, "-")
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil || strings.ContainsAny(rest, `", `) {
		return nil, conf.Errorf(conf.CodeMalformed, "If-Match %q is neither a version nor an ETag of this route", clip(text)).
			WithHint(`send the version that you read, such as If-Match: "5", or the ETag of the answer as it was`)
	}
	if err := add(v); err != nil {
		return nil, err
	}
	if full {
		return out, h.sameTag(c, bare)
	}
	return out, nil
}

// sameTag compares a whole ETag with the record. The version alone is compared
// again by the editor, under its lock; a version of another epoch only here.
func (h *Handler) sameTag(c *call, bare string) error {
	var current uint64
	rec, err := h.o.Reader.Record(c.r.Context(), c.service())
	switch {
	case conf.CodeOf(err) == conf.CodeNotFound:
	case err != nil:
		return err
	default:
		if want := `"` + strings.TrimSuffix(bare, "-stored") + `"`; want == tag(rec, false) {
			return nil
		}
		current = rec.Version
	}
	e := conf.Errorf(conf.CodeConflict, "%s is not what the ETag names any more; it is at version %d", c.service(), current).
		WithHint("read it again, and repeat the change on what you read")
	e.Current = current
	return e
}
