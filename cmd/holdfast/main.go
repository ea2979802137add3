// Command holdfast is the agent and the command line of Holdfast.
//
// main connects the process (arguments, streams, signals, exit code) to the
// command tree of root.go, which lists the commands in the groups of the help text.
// Each group is a package below internal, and each command a file in it; what
// they share is in internal/cli. The commands reach an agent over its HTTP APIs
// only, through localapi/client; only internal/run runs the agent's own code.
//
// No secret is taken as an argument other than --token.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

func main() { os.Exit(realMain()) }

// realMain is main with the exit code as its result, so that deferred calls run.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default action is back: a second one ends the
	// process at once when the graceful shutdown hangs.
	context.AfterFunc(ctx, stop)
	a := &cli.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv, Version: version}
	return a.Run(ctx, newRoot(a), os.Args[1:])
}
