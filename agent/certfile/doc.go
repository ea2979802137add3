// Package certfile has the TLS settings of a server whose certificate is in two PEM files:
// that of the embedded MQTT broker, and that of the admin port, which the agent, an agent
// that joins and the fallback serve one after the other.
//
// Invariants: changed files are read again with the next connection, at most once a second;
// while they do not match, as during a renewal, the previous certificate stays.
//
// Callers: agent, agent/membership and agent/fallback, when they build a server. The
// settings are safe for concurrent use.
package certfile
