// Package lkg keeps the last-known-good file: one JSON file that holds all that
// an agent needs to serve its configuration when nothing else is left.
//
// The file has the five members of the seed's LKGCache. payload maps each
// service to its effective document, without secrets; payload["_meta"], which no
// service can be named, holds what turns these documents back into whole
// records: versions, checksums, signatures, stored values, schemas, the sealed
// secrets, and which fields come from the environment. signature is the hex HMAC-SHA256 over the
// RFC 8785 form of the other four members.
//
// Invariants:
//
//   - Load returns what was written or an error, never something in between. A
//     byte that changed anywhere in the file makes it refuse the whole file.
//   - The file under its name is always a whole one: it is written beside, synced
//     and renamed.
//   - The file itself is in RFC 8785 form, made of pieces that are already, so
//     that writing costs a copy and an HMAC, and so does loading. A file that
//     another tool printed anew is accepted too, by a slower path.
//   - The Writer holds nobody up: it takes the newest content when it is ready for
//     it, at most a tenth of the time, and skips what it could not keep up with.
//
// Load is called at start, before anything else is open. Writer.Run has one
// goroutine of the agent; Flush, Save and Status may be called from any.
package lkg
