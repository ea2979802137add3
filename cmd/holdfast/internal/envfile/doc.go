// Package envfile reads what the local API writes as a file of environment variables.
package envfile
