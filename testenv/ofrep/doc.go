// Package ofrep tests the answers for OpenFeature: each against the OpenAPI document of the
// protocol, and the scenarios of OpenFeature's own specification by its SDK for Go, through
// the Provider of this package, at real agents. The program testenv/services/openfeature
// has the Provider too.
//
// Provider is thin and strict: it takes a number with a fraction or an exponent for a float
// and every other one for an integer, as providers in Python and Java do.
package ofrep
