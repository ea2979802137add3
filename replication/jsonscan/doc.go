// Package jsonscan reads JSON (RFC 8259) token by token from bytes in memory,
// for the code that every write runs through and that encoding/json is too slow
// for.
//
// A Scanner checks the grammar, and answers only whether a token is there: its
// callers leave what it rejects to encoding/json or to another slow path, which
// finds the words for an error. It neither copies nor allocates, except in Text
// for a string with escapes. It does not check that strings are valid UTF-8, nor
// that the members of an object have different names.
//
// It imports nothing of the product. A Scanner belongs to one goroutine.
package jsonscan
