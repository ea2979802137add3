package conf

import (
	"errors"
	"fmt"
	"strings"
)

// Code names one class of failure. The set is closed: each edge (HTTP status,
// exit code) maps all of them in one table, and a test holds the tables complete.
type Code string

// The codes, as they stand in the "code" member of an error body.
const (
	CodeMalformed       Code = "malformed"       // not JSON, duplicate key, too deep, not UTF-8
	CodeInvalid         Code = "invalid"         // well formed, but breaks the schema or a rule; see Details
	CodeTooLarge        Code = "too_large"       // body or document over its limit
	CodeUnauthenticated Code = "unauthenticated" // no token, or a wrong one
	CodeDenied          Code = "denied"          // known caller without the role
	CodeNotFound        Code = "not_found"       // no such service, key, schema, profile, version
	CodeMethod          Code = "method_not_allowed"
	CodeConflict        Code = "version_conflict" // somebody else wrote first; see Current
	CodeImmutable       Code = "immutable"        // the value comes from the environment
	CodeUnsupported     Code = "unsupported"      // this build or state cannot do it
	CodeReadOnly        Code = "read_only"        // this agent serves from its last-known-good file
	CodeNoQuorum        Code = "no_quorum"        // no leader is known
	CodeOutcomeUnknown  Code = "outcome_unknown"  // the write may or may not have happened
	CodeStale           Code = "stale"            // an answer exists, but it is too old for what was asked
	CodeRateLimited     Code = "rate_limited"
	CodeStorageFull     Code = "storage_full"
	CodeCorrupt         Code = "corrupt"         // stored bytes are not what was written
	CodeLocked          Code = "locked"          // another process holds the database
	CodeSchemaMismatch  Code = "schema_mismatch" // the stored schemas are not those that model_hash names
	CodeUsage           Code = "usage"           // a flag or an argument is wrong
	CodeInternal        Code = "internal"
)

// Codes lists the closed set, for the tests of the tables that map it.
func Codes() []Code {
	return []Code{
		CodeMalformed, CodeInvalid, CodeTooLarge, CodeUnauthenticated, CodeDenied, CodeNotFound, CodeMethod,
		CodeConflict, CodeImmutable, CodeUnsupported, CodeReadOnly, CodeNoQuorum, CodeOutcomeUnknown, CodeStale,
		CodeRateLimited, CodeStorageFull, CodeCorrupt, CodeLocked, CodeSchemaMismatch, CodeUsage, CodeInternal,
	}
}

// FieldError says what is wrong with one key of a document. Message names the
// allowed range, never the value of a secret.
type FieldError struct {
	Key     string `json:"key"`
	Message string `json:"message"`
}

// Error is the one error type of the product. Message is for a person and holds
// no secret; Hint is the way out, as an imperative sentence.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Details []FieldError
	Current uint64 // CodeConflict: the version that the service has now
	Err     error  // cause, may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	cause := e.Err.Error()
	if e.Message == cause { // Errorf(code, "%w", err) only gives err a code
		return cause
	}
	return e.Message + ": " + cause
}

func (e *Error) Unwrap() error { return e.Err }

// Is matches another *Error by its code, so errors.Is(err, conf.ErrNotFound) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// Sentinels for errors.Is; they match any error of their code.
var (
	ErrNotFound       = &Error{Code: CodeNotFound}
	ErrConflict       = &Error{Code: CodeConflict}
	ErrReadOnly       = &Error{Code: CodeReadOnly}
	ErrNoQuorum       = &Error{Code: CodeNoQuorum}
	ErrOutcomeUnknown = &Error{Code: CodeOutcomeUnknown}
	ErrCorrupt        = &Error{Code: CodeCorrupt}
	ErrLocked         = &Error{Code: CodeLocked}
	ErrSchemaMismatch = &Error{Code: CodeSchemaMismatch}
	ErrInvalid        = &Error{Code: CodeInvalid}
)

// Errorf makes an Error with a code; a %w verb in format becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	if cause := errors.Unwrap(err); cause != nil {
		return &Error{Code: code, Message: strings.TrimSuffix(err.Error(), ": "+cause.Error()), Err: cause}
	}
	return &Error{Code: code, Message: err.Error()}
}

// WithHint returns e with the way out added.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// CodeOf tells the code of err: that of the outermost *Error in its chain, and
// CodeInternal for any other error. It is "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// HintOf tells the hint of the outermost *Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		if e, ok := err.(*Error); ok && e.Hint != "" { //nolint:errorlint // walks the chain itself
			return e.Hint
		}
		err = errors.Unwrap(err)
	}
	return ""
}
