// Package values handles configuration documents as their keys and values: it
// flattens them to dotted keys, compares two of them, and prints what differs.
// Its functions keep no state.
package values
