// Package doors tests the ways by which a program gets its configuration without code for
// it: the client libraries, with real programs beside real agents.
package doors
