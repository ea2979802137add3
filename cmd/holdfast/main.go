// Command holdfast is the agent and the command line of Holdfast.
//
// main is thin: it wires the process (arguments, streams, signals, exit code) to
// the command tree of newRoot. Each subcommand is one file. The commands reach
// an agent over its HTTP APIs only, through localapi/client; only "agent" and
// "dev" run one, through package agent.
//
// What holds for every command: results go to stdout and everything else to
// stderr; an error is one "holdfast: ..." line with its details and a hint; the
// exit code comes from the one table in exit.go; no secret is taken as an
// argument other than --token.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

// realMain is main with the exit code as its result, so that deferred calls run.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default action is back: a second one ends the
	// process at once, should the orderly stop hang.
	context.AfterFunc(ctx, stop)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookupEnv: os.LookupEnv}
	return a.run(ctx, os.Args[1:])
}
