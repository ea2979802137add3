// Package promtest holds what docs/deploy has for Prometheus and Grafana against a real
// Prometheus, which scrapes a real cluster. The tests call it; it has no product code.
package promtest
