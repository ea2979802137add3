// Package doors has the commands by which programs get configuration without code for it.
package doors
