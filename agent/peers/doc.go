// Package peers knows the other members of the cluster and calls them: the member
// list with the state that is saved in cluster.json, the cluster port, the client
// and the routes of member RPC, the features that each member's build has, and the
// forwarding of admin requests to the leader.
//
// Invariants:
//   - A removed member stays removed, also when the store that said so is rebuilt.
//   - An agent starts a log of its own only while it is the only member it knows of.
//   - A request is forwarded once. What never left this agent is no_quorum; what may
//     have reached the leader is outcome_unknown.
//   - The certificate names the caller of a route; what only the leader or only a
//     server may do is checked by the room that registers the route.
//
// Callers: the replica's goroutines set the members once a second; HTTP handlers, the
// Raft transport and the rooms call everything else concurrently. Open and Attach
// come before the port starts.
package peers
