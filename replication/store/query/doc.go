// Package query reads the content of the database: records, versions, logs, members,
// tokens and keys.
//
// Invariants:
//
//   - The queries of one call see one moment.
//   - Rows that have a digest are verified by it. The hash of a token's secret leaves by
//     JoinToken and APIToken only.
//   - A page of a log has a limit, and its query names the index that it reads.
//
// Queries is safe for concurrent use, and does not wait for Apply.
package query
