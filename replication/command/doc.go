// Package command is the content of a log entry: what the cluster agreed to do.
//
// An entry is two bytes, the version of the format and the kind of the command,
// and then JSON. A command carries all that applying it needs: times, authors,
// versions, checksums and signatures were fixed by the leader before the
// proposal, so that applying it reads no clock, no random source and no
// environment, and gives the same rows on every node.
//
// Invariants:
//
//   - Encode and Decode are exact inverses. Decode accepts only the bytes that
//     Encode makes of what it decoded, which leaves no room for a duplicate, an
//     unknown or a differently spelled member that two builds would read in two
//     ways. Documents inside (json.RawMessage) keep every byte.
//   - Decode never panics: a panic while applying would stop every node at once.
//   - The bytes of each kind are pinned by golden files. A member may be added only with
//     omitempty; a node that does not know it refuses the entry instead of
//     ignoring it. Anything else needs a new kind or a new format version, which
//     an older build reports as ErrUnknownVersion.
//
// All functions are safe for concurrent use. The proposer calls Encode, each
// node's log applier calls Decode.
package command
