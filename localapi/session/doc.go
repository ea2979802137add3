// Package session has what the admin API does for browsers: sessions in sealed cookies,
// one-time links that begin one, and the check that a request comes from a page of this
// origin.
//
// # Sessions
//
// A session is its cookie: the token of the caller, when it began and when it was last used,
// sealed (AES-256-GCM) with a key that the servers of the cluster share. Each server opens
// what another one sealed, so that neither a load balancer nor a failover ends a session. A
// key that is no longer the active one still opens. An agent without a shared key uses one of
// its own, and its sessions end with it.
//
// The token is in the cookie because each request is authorized by it, here and at the
// leader: what ends the token ends its sessions. Nobody reads it without the key. The cookie
// is bound to its name, which has the port: browsers send a cookie to every port of a host.
//
// # Invariants
//
//   - A session ends Life after its begin and Idle after its last use, whatever happens.
//   - A session that was ended here is not accepted here again. Other servers do not know,
//     and accept a copy of its cookie until it ends: the browser has removed its own.
//   - A link begins one session, within LinkLife. Only its hash is kept.
//
// Everything is safe for concurrent use; the package starts no goroutine.
package session
