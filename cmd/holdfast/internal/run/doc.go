// Package run has the commands that run an agent in this process, agent and dev,
// and everything else of the command line that uses package agent: the flags of
// its settings, and the work on a stopped agent's files and on backups for the
// commands of other groups. No other package of the command line runs agent code.
//
// An agent runs until the context of its command ends, which is success. dev runs
// each of its agents on a goroutine; all else runs on the goroutine of the command.
package run
