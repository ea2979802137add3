// Package staged has the command holdfast rollout: changes that go to some instances before
// all get them, and come back by themselves. Waiting for one ends with an exit code for
// scripts: 0 completed, 9 rolled back, 10 paused.
//
// root.go calls Rollout, and cobra runs its subcommands, on one goroutine.
package staged
