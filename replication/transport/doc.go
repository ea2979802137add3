// Package transport connects the agents of a cluster: one TLS 1.3 port for Raft, calls
// between members and joins, and join tokens. Identities and the CA are in replication/pki.
//
// Raft trusts what a message says about its sender, so a client that reaches raft controls
// the cluster. Therefore a connection is authenticated and authorized before the layers
// above get it: its certificate must come from the cluster's CA, its one URI SAN
// (holdfast://CLUSTER/ROLE/NODE) names the member, and the role decides which protocols
// it may use. ALPN selects the protocol:
//
//	holdfast-raft/1  Raft. Only servers dial it; servers and sidecars serve it.
//	holdfast-rpc/1   HTTP between members. Any member dials it.
//	holdfast-join/1  HTTP for an agent that has a join token and no certificate yet.
//
// After the TLS handshake the accepting side sends one byte, its accept code. The dialing
// side sends nothing before it has read it: a rejected agent learns the reason, and no
// Raft byte and no credential goes to an agent that rejects.
//
// Invariants:
//
//   - A connection is dispatched only after the handshake, the name, the role, the limits
//     and Options.Allowed have passed. A rejected connection is closed, counted by reason
//     (Stats) and passed to Options.OnRefused.
//   - Both sides verify: cluster, role, expiry, membership, and the node id if the dialing
//     side expects one. A node never accepts its own node id.
//   - Unauthenticated clients use bounded memory: limits on connections (total and per
//     source), on handshakes in progress and on their bytes, one deadline for the handshake
//     and the accept code. When there are too many handshakes the oldest is closed, so that
//     idle sockets do not block members.
//   - TLS sessions are never resumed: each handshake verifies the certificate. A connection
//     does not outlive its certificate or its membership (Recheck, and every
//     Options.CheckEvery).
//   - A joiner sends nothing, not even its token, before the chain of the server ends in
//     the CA whose hash the token contains, or in one that this CA endorses.
//   - A CA is accepted if it is trusted, or if a trusted CA endorses it in its certificate
//     (pki.NextCA): a member that was offline while the CA was replaced can connect. A
//     removed CA endorses nothing.
//   - Every reason to reject a join token is the same error for the joiner. The actual one
//     goes to Options.OnRefused, for the access log.
//
// Goroutines: Start runs one that accepts, one that rechecks, and two that serve HTTP; each
// handshake has its own until it is dispatched; net/http has one per connection. Stop ends
// them all. All methods are safe for concurrent use. The callbacks in Options are called
// from any goroutine, and must return quickly.
package transport
