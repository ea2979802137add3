// Package cluster has the commands for the agents that form a cluster: cluster,
// token and keys. All use the admin API, but for cluster recover, which works on
// the data directory of a stopped agent through package run.
package cluster
