// Package chaos breaks a cluster in random ways for as long as it is told to,
// under clients that note all they see, and then says whether they saw one
// consistent store: make chaos DURATION=10m SEED=7. A short run is one of the
// tests.
//
// The order of the faults follows from the seed alone; what the machine makes of
// them does not. A run with too little traffic or too few faults fails, since it
// shows nothing.
package chaos
