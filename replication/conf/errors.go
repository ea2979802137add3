package conf

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a class of errors. The set is closed: one table maps all codes to HTTP
// statuses, one to exit codes, and tests check that they are complete.
type Code string

// The codes, as in the "code" member of an error body.
const (
	CodeMalformed       Code = "malformed"       // not JSON, duplicate key, too deep, not UTF-8
	CodeInvalid         Code = "invalid"         // violates the schema or a rule; see Details
	CodeTooLarge        Code = "too_large"       // body or document over its limit
	CodeUnauthenticated Code = "unauthenticated" // no token, or a wrong one
	CodeDenied          Code = "denied"          // authenticated caller without the role
	CodeNotFound        Code = "not_found"       // no such service, key, schema, profile, version
	CodeMethod          Code = "method_not_allowed"
	CodeConflict        Code = "version_conflict" // another write came first; see Current
	CodeRolloutActive   Code = "rollout_active"   // a rollout of the service runs; nothing else changes it
	CodeImmutable       Code = "immutable"        // the value comes from the environment
	CodeUnsupported     Code = "unsupported"      // this build or state cannot do it
	CodeReadOnly        Code = "read_only"        // this agent serves from its last-known-good file
	CodeNoQuorum        Code = "no_quorum"        // no leader is known
	CodeOutcomeUnknown  Code = "outcome_unknown"  // the write may or may not have happened
	CodeStale           Code = "stale"            // the result is older than requested
	CodeRateLimited     Code = "rate_limited"
	CodeStorageFull     Code = "storage_full"
	CodeCorrupt         Code = "corrupt"         // stored bytes have changed
	CodeLocked          Code = "locked"          // another process holds the database
	CodeSchemaMismatch  Code = "schema_mismatch" // the stored schemas do not match model_hash
	CodeUsage           Code = "usage"           // a flag or an argument is wrong
	CodeInternal        Code = "internal"
)

// Codes returns all codes.
func Codes() []Code {
	return []Code{
		CodeMalformed, CodeInvalid, CodeTooLarge, CodeUnauthenticated, CodeDenied, CodeNotFound, CodeMethod,
		CodeConflict, CodeRolloutActive, CodeImmutable, CodeUnsupported, CodeReadOnly, CodeNoQuorum, CodeOutcomeUnknown, CodeStale,
		CodeRateLimited, CodeStorageFull, CodeCorrupt, CodeLocked, CodeSchemaMismatch, CodeUsage, CodeInternal,
	}
}

// FieldError is the error in one key of a document. Message names the allowed range,
// never the value of a secret.
type FieldError struct {
	Key     string `json:"key"`
	Message string `json:"message"`
}

// Error is the error type of the product. Message is for people and contains no
// secret; Hint is the way out, as an imperative sentence.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Details []FieldError
	Current uint64 // CodeConflict: the current version of the service
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

// Is makes errors.Is match the sentinels by their code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// Sentinels for errors.Is, which match any error with their code.
var (
	ErrNotFound       = &Error{Code: CodeNotFound}
	ErrConflict       = &Error{Code: CodeConflict}
	ErrReadOnly       = &Error{Code: CodeReadOnly}
	ErrNoQuorum       = &Error{Code: CodeNoQuorum}
	ErrOutcomeUnknown = &Error{Code: CodeOutcomeUnknown}
	ErrInvalid        = &Error{Code: CodeInvalid}
)

// Errorf returns an Error with a code; the operand of %w becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	if cause := errors.Unwrap(err); cause != nil {
		return &Error{Code: code, Message: strings.TrimSuffix(err.Error(), ": "+cause.Error()), Err: cause}
	}
	return &Error{Code: code, Message: err.Error()}
}

// WithHint returns a copy of e with a hint.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// CodeOf returns the code of the outermost *Error in err's chain, CodeInternal for any
// other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// HintOf returns the hint of the outermost *Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		if e, ok := err.(*Error); ok && e.Hint != "" { //nolint:errorlint // walks the chain itself
			return e.Hint
		}
		err = errors.Unwrap(err)
	}
	return ""
}
