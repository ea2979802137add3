// Package conf defines the common types of Holdfast: records and their fields, names,
// the strict JSON parser, and the closed set of error codes.
//
// It imports nothing except the standard library and jsonscan, so every package may
// import it. It contains data and pure functions only: nothing reads a clock, a file,
// the environment or the network.
//
// The names of enums and JSON members are a contract (HTTP bodies, MQTT payloads,
// columns) and never change.
//
// Values that packages share (Record, Item, ...) are immutable: to change one, copy
// it. All functions may be called on any goroutine.
package conf
