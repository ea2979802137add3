// Package tables is the layout of the database file: its tables, indexes and
// format, the digest of a row and of the state, and what a row is as a type of conf.
//
// Invariants:
//
//   - Every row of a covered table carries a SHA-256 of its content. Their sum modulo
//     2^256 is the state digest. Read, Each and VerifyRows compute them again: a changed
//     bit is CodeCorrupt, never a wrong value.
//   - A file of another format, older or newer, is CodeUnsupported, never corrupt.
//   - Column names, the canonical form of a row and schema.sql are the format: a change
//     of one of them needs another number.
//
// A Querier is used by one goroutine, Writer by the holder of the lock of the store.
package tables
