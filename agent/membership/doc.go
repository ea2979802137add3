// Package membership is the way into the cluster and out of it: the identity of this
// agent, join tokens, admission of joining agents, rejoining as a later incarnation
// after a lost log, the rows of the member list, and the changes that an operator makes
// to the cluster.
//
// Invariants:
//   - Joining is done before anything else exists, and can be repeated: the node key
//     stays the same, so that the leader recognizes a retry.
//   - The identity is saved last: without it the next start joins again.
//   - A server that lost its log never comes back under its node id: it may have voted,
//     or have acknowledged entries. It becomes the next incarnation, NODE-r2 after NODE.
//   - The secret of a token is compared in constant time, also for an unknown token.
//   - A removed member leaves Raft first. Then its row is closed and its keys are revoked,
//     and every cluster port rejects its certificates, no matter which agent gets its node id later.
//   - A member keeps its key. Another one is recorded by the leader before a certificate
//     is issued for it.
//
// Callers: Identity is called by New of the agent, before the cluster port is open. The
// jobs are called on the goroutines of a replica; Rejoin on the supervisor's. The Admin
// API and the cluster port call the rest concurrently.
package membership
