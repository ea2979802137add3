// Package model has the commands for what configuration is valid and for sets of
// values to switch between: schema and profile. All use the admin API.
package model
