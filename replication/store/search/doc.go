// Package search has the items of all documents, one row a key, and their full-text
// index, and answers searches from them.
//
// Invariants:
//
//   - Items are derived: they are a function of the covered rows and of Project. They
//     can be derived again at any time, and nothing that is replicated depends on them.
//   - A secret has no item.
//   - Items follow after the acknowledgement of a change. What is stale is in memory, and
//     is found again after a start by the index in items_state.
//
// The methods of Index are called with the lock of the store. Query reads on any
// connection.
package search
