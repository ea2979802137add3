// Package migrate has the part of holdfast import that takes the files of other programs
// (--from): it reads them with package foreign, shows what would change, asks for the
// secrets, and writes the schema and the values of one service in one change.
//
// The value of a secret goes to the agent and nowhere else: it is not printed, and an error
// about one is replaced by one without it. The command holdfast import calls Run on its
// goroutine.
package migrate
