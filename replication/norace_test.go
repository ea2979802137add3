//go:build !race

package replication

const racing = false
