// Package trust holds the rule for files that decide what a program of this user does:
// where tokens are sent, which commands run. Such a file is read only when nobody but its
// user and root could have written it, as ssh has it for its configuration.
//
// It keeps no state, and its functions may be called on any goroutine. The readers of .env
// files and of render.yaml call it.
package trust
