// Package store keeps this node's replica of the configuration in one SQLite
// file: it applies batches of log entries, answers queries, and moves the whole
// content out (Snapshot) and in (Restore).
//
// Invariants:
//
//   - One batch is one IMMEDIATE transaction, with the applied index, term, epoch
//     and state digest in it. What the file holds is always a prefix of the log.
//     Memory follows only after COMMIT.
//   - Applying is a pure function of the rows and of the entries, and does not depend on
//     where one batch ends and the next begins: no clock, no random source, no
//     environment. Two nodes at the same index have the same Digest.
//   - Every covered row carries a SHA-256 of its content, and their sum modulo
//     2^256 is the state digest. Open, Verify, Snapshot and every read of a record
//     recompute them: a changed bit is CodeCorrupt, never a wrong value.
//   - Who is a member and which join token was used by whom are covered rows like
//     any other. The hash of a token's secret leaves by JoinToken and in a
//     snapshot, and in no other way.
//   - A file of another format, older or newer, is CodeUnsupported, never corrupt,
//     and is not changed.
//   - A Reissue replaces signatures only. The version that carries one, its history and
//     the index that made it stay, and so does what config_versions keeps of it.
//   - config_items and its full-text index are derived from the covered rows with
//     Options.Project. They follow when Merge or Search brings them up to date (a
//     search knows all that was applied before it, over a restart too), and are
//     made again when they differ; nothing that is replicated is computed from them.
//   - What a change needs to know of its service is remembered (heads): it is what
//     the rows say. Every write to a row of a service goes through tx.put or
//     tx.remove, or sets the head itself.
//   - A fault while applying (corrupt, full, locked) leaves the batch out as a
//     whole. After CodeCorrupt the store applies nothing any more.
//
// Apply, Restore and Snapshot are called by the one goroutine that applies the
// log. Everything else is safe for concurrent use and does not wait for Apply:
// queries run on a pool of read-only connections.
package store
