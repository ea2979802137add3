// Package command defines the content of the log entries.
//
// An entry is two bytes, the version of the format and the kind of the command,
// and then JSON. The leader sets all times, authors, versions, checksums and
// signatures before the proposal. Applying a command therefore reads no clock, no
// random source and no environment, and gives the same rows on every node.
//
// Invariants:
//
//   - Encode and Decode are exact inverses. Decode accepts only the bytes that
//     Encode makes of its result: no duplicate, unknown or differently spelled
//     member, which two builds could read in two ways. Documents inside
//     (json.RawMessage) keep every byte.
//   - Decode never panics: a panic while applying would stop every node at once.
//   - Golden files hold the bytes of each kind. A new member must have omitempty and
//     a feature bit (features.go); an older node rejects the entry instead of
//     ignoring the member. Other changes need a new kind or a new format version,
//     which an older build reports as ErrUnknownVersion.
//
// All functions are safe for concurrent use. Proposers call Encode on their own
// goroutines, the state machine of each node calls Decode.
package command
