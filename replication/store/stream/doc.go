// Package stream writes the content of a database as a snapshot, and reads one back.
//
// Invariants:
//
//   - A stream has all covered tables and nothing derived. It ends with the SHA-256 of
//     every byte before it.
//   - Write verifies every row on the way out, Check every byte on the way in, and Load
//     that the rows have the digest of the header.
//   - Load changes the database inside the transaction of its caller only.
//
// Write runs on the goroutine that stores a Raft snapshot, Load on the one that applies.
package stream
