// Package pattern compiles the regular expressions of a JSON Schema: those of ECMA 262 and
// Python, as far as they run in linear time.
//
// Invariants: a match takes a time that is linear in the text, which is limited; the size of
// a compiled pattern is limited, and its memory is estimated so that schemas can be limited
// by it.
//
// The compiler of schemas calls Compile, on any goroutine; patterns are immutable.
package pattern
