// Package ops has the commands that inspect and operate: the logs (history,
// audit), the state of an agent (health, ready, version), its data (backup,
// export, import, rebuild) and verify, which checks signed updates.
package ops
