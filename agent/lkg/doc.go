// Package lkg reads and writes the last-known-good file: one JSON file from which an
// agent can serve its configuration without its database and without other members.
//
// The file has the five members of LKGCache. payload maps each service to its
// effective document, without secrets. payload["_meta"] (no service can have this
// name) has the rest of the records: versions, checksums, signatures, stored values,
// schemas, sealed secrets, and the fields from the environment. signature is the hex
// HMAC-SHA256 over the RFC 8785 form of the other four members.
//
// The journal beside the file has the changes since it was written, chained by HMAC to
// the signature of the file. See docs/design/decisions/0020-last-known-good-journal.md.
//
// Invariants:
//
//   - Load returns the content that was written, or an error. One changed byte makes
//     it reject the whole file.
//   - Files are replaced by replication/durable, so a file is never torn.
//   - The file is in RFC 8785 form, and its parts are already, so writing and loading
//     cost a copy and an HMAC. A file that another tool has reformatted is accepted
//     too, on a slower path.
//   - What Append has returned for survives the process: a file takes the place of
//     another only after the journal names it, and a journal that of another only with
//     all that is newer than its file.
//   - Records of the journal count up to the first that does not verify.
//   - A Writer takes the newest content, writes files at most a tenth of the time, and
//     skips content that was replaced meanwhile. Append waits for no more than the
//     exchange of the journal.
//
// The agent calls Load at its start, before it opens anything else. Writer.Run has its
// own goroutine; Append is called by the one that advances the view, before it does;
// Flush, Save and Status may be called on any.
package lkg
