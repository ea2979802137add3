// Package broker carries the leader-signed configuration over MQTT: a Broker
// inside every agent that services subscribe to, and a Publisher through which
// the leader keeps a broker outside of the cluster up to date.
//
// Both follow a Source and hold the newest message of each topic:
//
//	system/config/<service>        the signed update, one for each service, tombstones too
//	system/health/config-manager   conf.Health, at each transition and every 30 seconds
//	system/config-epoch            the signed changes of the epoch, once there was one
//
// All messages are retained and go out with QoS 1. The bytes of an update are those
// of seal.EncodeUpdate, the same on every broker of a cluster. MQTT 5 adds the
// user properties config-version, config-index and key-id, which the signature
// does not cover.
//
// Invariants of the Broker:
//
//   - Clients only subscribe, only below "system/". A publish, a Will, "$share",
//     "$SYS" and a wildcard above "system/" are refused and counted.
//   - It conflates: each connection has at most one pending message a topic, the
//     newest. A slow reader skips versions; it never sees an older one after a
//     newer one, and nobody waits for it. Payloads are shared, never queued twice.
//   - Sessions are clean and have no identity. Two clients with one id are two
//     clients: none can throw another out.
//   - What a peer sends costs bounded memory and cannot end the process: packets
//     are small, filters few, connections counted, each has a deadline to say
//     CONNECT and a deadline for each write, and a panic ends one connection.
//
// mochi-mqtt parses packets, keeps sessions and answers CONNECT, SUBSCRIBE,
// UNSUBSCRIBE and PINGREQ. It does not deliver: its own path shares locks and
// bounded queues between clients, so that one stuck reader stops all, and its
// retained messages expire. Delivery is in outbox.go.
//
// Invariants of the Publisher:
//
//   - It is connected only while its agent leads. All leaders of a cluster use one
//     client id, so a broker that accepts the new leader cuts the old one off:
//     nothing that a deposed leader still sends can replace something newer.
//   - After each connect it publishes the newest of everything, and a message
//     counts as published when the broker has acknowledged it.
//   - Its Will tells of a leader that died; the password is never logged.
//
// Goroutines: Broker.Run and Publisher.Run are called once each, on goroutines of
// the agent, and end with their contexts. A Source is called only from these
// two, never from the goroutine that applies the log. Everything else may be
// called from any goroutine.
package broker
