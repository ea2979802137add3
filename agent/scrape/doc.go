// Package scrape serves the metrics of an agent to other hosts, at CONFIG_METRICS_ADDR, and
// has those that tell what an agent is: its build, its part in the cluster, the versions of
// its services.
//
// Invariants: the address answers GET and HEAD of /metrics and nothing else; it has limits of
// its own, so that who reads it takes nothing from the other ports; an address that is taken
// keeps no agent from running; a metric never has a value of the configuration.
//
// Run has a goroutine of the agent. Collect is called by requests, and may overlap.
package scrape
