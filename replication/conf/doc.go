// Package conf is the vocabulary of Holdfast: what a configuration is, how it
// is named, and the closed set of errors that the rest of the product speaks.
//
// It has no dependency on the product or on any library outside the standard
// one, so every package may import it. It holds data and pure functions only:
// nothing here reads a clock, a file, the environment or the network.
//
// The names of fields, enums and JSON members of the public types are a
// contract (HTTP bodies, MQTT payloads, columns); change none of them.
//
// Values that cross package borders (Record, Item, ...) are immutable once they
// are shared: whoever wants another one makes a copy. All functions are safe for
// concurrent use.
package conf
