// Package read has the commands that read configuration: get, env, watch, list,
// search and explain. They change nothing. All but list and search ask the local
// API, which needs no token and answers without a leader.
package read
