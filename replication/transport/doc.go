// Package transport is how agents talk to each other: one TLS 1.3 port that
// carries Raft, calls between members and joins, the cluster's certificate
// authority, the identity that an agent keeps on disk, and join tokens.
//
// Whoever reaches Raft with its own bytes owns the cluster, because Raft believes
// what a message says about its sender. So a connection is judged here, before
// anything above sees it: the certificate must come from the cluster's CA, its one
// URI SAN (holdfast://CLUSTER/ROLE/NODE) says who it is, and the role decides what
// it may speak. The protocol is chosen by ALPN:
//
//	holdfast-raft/1  Raft. Only servers dial it; servers and sidecars serve it.
//	holdfast-rpc/1   HTTP between members. Any member dials it.
//	holdfast-join/1  HTTP for an agent that has a join token and no certificate yet.
//
// After the TLS handshake the accepting side sends one byte, its verdict. The
// dialing side sends nothing before it has read it: an agent that is refused
// learns why, and no Raft byte and no credential goes to one that refuses.
//
// Invariants:
//
//   - Nothing is handed over before the handshake, the name, the role, the limits
//     and Options.Allowed have all passed. A refused connection is closed, counted
//     by reason (Stats) and told to Options.OnRefused.
//   - Both sides verify: cluster, role, expiry, not removed, and the node id where
//     the dialing side knows it. A server's own node id is never accepted.
//   - Memory is bounded against strangers: limits on connections (in all and per
//     source), on handshakes in flight and on their bytes, one deadline for the
//     handshake and its verdict. When handshakes are crowded the oldest gives way,
//     so that idle sockets do not keep members out.
//   - No session is resumed: a certificate is judged in every handshake. A
//     connection does not outlive its certificate nor its membership (Recheck, and
//     by itself every Options.CheckEvery).
//   - A joiner sends nothing, not even its token, before the chain of the server
//     ends in the CA that the token names by its hash, or in one for which that CA
//     vouches.
//   - A CA is taken when it is among the trusted ones, or when one of those vouches for
//     it in its certificate (NextCA): a member that was away while the CA was replaced
//     still meets the others. What is forgotten vouches for nothing.
//   - Every reason to refuse a join token is the same error to the joiner. The true
//     one goes to Options.OnRefused, for the audit log.
//   - An Identity is complete on disk or absent: node.pem is written last, and a
//     crash between two files leaves a set that Load takes or that counts as none.
//
// Goroutines: Start runs one that accepts, one that rechecks, and two that serve
// HTTP; a handshake has its own until it is handed over; net/http has one a
// connection. Stop ends them all. All methods are safe for concurrent use. The
// callbacks in Options are called from any goroutine, and must be quick.
package transport
