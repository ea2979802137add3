// Package broker carries the signed updates over MQTT: a Broker inside every agent that
// services subscribe to, a Publisher through which the leader keeps an external broker up to
// date, and a Subscriber that follows a broker for an observer.
//
// Broker and Publisher follow a Source and have the newest message of each topic:
//
//	system/config/<service>        the signed update, one for each service, tombstones too
//	system/health/config-manager   conf.Health, at each transition and every 30 seconds
//	system/config-epoch            the signed epoch changes, once there was one
//
// All messages are retained and sent with QoS 1. The bytes of an update are those of
// seal.EncodeUpdate, the same on every broker of a cluster. MQTT 5 adds the user properties
// config-version, config-index and key-id, which the signature does not cover.
//
// Invariants of the Broker:
//
//   - Clients only subscribe, only below "system/". A publish, a Will, "$share", "$SYS" and
//     a wildcard above "system/" are rejected and counted.
//   - It conflates: each connection has at most one pending message per topic, the newest. A
//     slow client skips versions; it never receives an older one after a newer one, and
//     never delays others. Payloads are shared, never queued twice.
//   - Sessions are clean and have no identity. Two clients with one client id are two
//     clients: neither disconnects the other.
//   - Clients use bounded memory and cannot end the process: packets are small, filters few,
//     connections counted, CONNECT and each write have a deadline, and a panic ends one
//     connection.
//
// mochi-mqtt parses packets, keeps MQTT sessions and answers CONNECT, SUBSCRIBE, UNSUBSCRIBE
// and PINGREQ. It does not deliver: its delivery shares locks and bounded queues between
// clients, so that one stuck client stops all, and its retained messages expire. Delivery is
// in sendqueue.go.
//
// Invariants of the Publisher:
//
//   - It is connected only while its agent leads. All leaders of a cluster use one client
//     id, so a broker that accepts the new leader disconnects the old one: messages of a
//     deposed leader cannot replace newer ones.
//   - After each connect it publishes the newest message of every topic, and a message counts
//     as published when the broker has acknowledged it.
//   - Its Will reports a leader that died; the password is never logged.
//
// Why the client is our own: docs/design/decisions.
//
// Goroutines: Broker.Run, Publisher.Run and Subscriber.Run are called once each, on
// goroutines of the agent, and end with their contexts. A Source is called only from these,
// never from the goroutine that applies the log. Everything else may be called from any
// goroutine.
package broker
