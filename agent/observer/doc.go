// Package observer is the agent without Raft. It receives the signed updates of its
// services over MQTT, fetches from members what the broker does not have, and serves
// the same local API as a member.
//
// Parts: acceptedState has the newest verified record of each service, and publishes
// them; brokerLink is the state of the connection to the broker; fetcher asks members;
// learnedKeys is the file of signing keys that members proved.
//
// Invariants: nothing is served that a trusted key did not sign, except the schemas'
// defaults; a service never goes back to an older update; an update is in the
// last-known-good file before it is visible, unless the disk takes longer than
// saveTimeout.
//
// Callers: New and Run, once each, on the goroutine of cmd. Run starts one goroutine
// each for the subscriber (message, onBrokerState), the fetcher, runPublish (the only
// one that writes the view), the local provider and the writer of the
// last-known-good file. HTTP handlers and scrapes call Health concurrently.
//
// Locks are taken in this order: acceptedState.mu, fetcher.mu, brokerLink.mu.
package observer
