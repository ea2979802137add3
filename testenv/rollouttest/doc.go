// Package rollouttest holds staged rollouts against real agents: a change that a service
// refuses while the leader, or all of the cluster but the agent beside it, is killed. The
// tests call it; it has no product code.
package rollouttest
