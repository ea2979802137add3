package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// devSchemas is where the schemas of a checkout of this repository are.
const devSchemas = "testenv/schemas"

func newDev(a *app) *cobra.Command {
	o := agent.Defaults()
	o.LogLevel = "WARNING" // the terminal belongs to the person who tries things out
	o.ClusterAddr = "127.0.0.1:2771"
	n := 1
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an agent to try things out, and show how to use it",
		Long: `Run an agent with everything in it, keep its data in ./holdfast-data, and print how
to reach it: addresses, tokens, and commands that work as they stand. It is the
same agent as "holdfast agent", with less log and more help.

With --agents N it runs a cluster of N agents in this one process, each with its own
directory and its own ports: those of the settings for the first one, 10 higher for
the second one, and so on. A data directory that holds a cluster is started with all
of its agents.`,
		Example: `  holdfast dev
  holdfast dev --agents 3
  holdfast dev --schema-dir ./schemas --manager-port 9081`,
		Args: needs(),
	}
	flags := addSettings(cmd, &o)
	cmd.Flags().IntVar(&n, "agents", 1, "how many agents to run, as one cluster")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.resolve(cmd, a, &o); err != nil {
			return err
		}
		if o.SchemaDir == "" {
			if fi, err := os.Stat(devSchemas); err == nil && fi.IsDir() {
				o.SchemaDir = devSchemas
			}
		}
		all, err := devAgents(cmd, o, n)
		if err != nil {
			return err
		}
		return a.dev(cmd.Context(), all)
	}
	return cmd
}

func because(h conf.Health) string {
	var why []string
	for _, s := range []*string{h.Event, h.Err} {
		if s != nil && *s != "" {
			why = append(why, *s)
		}
	}
	if why == nil {
		return ""
	}
	return " (" + strings.Join(why, "; ") + ")"
}

// clusterPortFree fails before anything starts when a cluster port is taken: of
// several agents, the first ones would be up by the time that one is opened.
func clusterPortFree(ctx context.Context, o agent.Options) error {
	host, port, err := net.SplitHostPort(o.ClusterAddr)
	if err != nil || port == "0" {
		return nil
	}
	if host == "" {
		host = "127.0.0.1"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // without the address, which is told already
		}
		return conf.Errorf(conf.CodeUsage, "cannot listen on %s: %w", o.ClusterAddr, err).
			WithHint("stop what uses it, such as another holdfast dev, or give this one ports of its own: --cluster-addr 127.0.0.1:3771 --local-addr 127.0.0.1:3770 --manager-port 9081 --mqtt-addr none (CONFIG_CLUSTER_ADDR and so on)")
	}
	return l.Close()
}

// welcome prints what a person needs next.
func (a *app) welcome(ctx context.Context, infos []agent.Info, o agent.Options) {
	info := infos[0]
	read, write := "", ""
	for _, t := range info.Tokens {
		if t.Principal.Role == conf.RoleWrite && write == "" {
			write = t.Token
		}
		if t.Principal.Role == conf.RoleRead && read == "" {
			read = t.Token
		}
	}
	if read == "" {
		read = write
	}
	p := func(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }
	if len(infos) == 1 {
		p("Holdfast is ready.\n")
		p("  local API  %-25s  what services read, without a token", info.LocalURL)
		p("  admin API  %-25s  reads and changes everything, with a token", info.AdminURL)
		if info.Socket != "" {
			p("  socket     %-25s  the local API again", info.Socket)
		}
		if info.MQTT != "" {
			p("  MQTT       %-25s  signed updates of all services, retained", info.MQTT)
		}
		p("  data       %s", o.DataDir)
	} else {
		p("Holdfast is ready: %d agents in one cluster.\n", len(infos))
		p("  agent  %-24s %-24s %-18s data", "local API", "admin API", "cluster, mTLS")
		for i, in := range infos {
			p("  %-6d %-24s %-24s %-18s %s", i+1, in.LocalURL, in.AdminURL, in.Cluster, in.DataDir)
		}
		p("")
	}
	services := waitForServices(ctx, info, o, read)
	switch {
	case o.SchemaDir != "":
		p("  schemas    %s (%s)", o.SchemaDir, plural(len(services), "service"))
	case len(services) > 0:
		p("  services   %s", strings.Join(services, ", "))
	}
	p("\nTokens, %s:", tokensFrom(info, o))
	p("  read   %s", orNone(read))
	p("  write  %s", orNone(write))
	a.examples(infos, services, read, write)
	if len(infos) > 1 {
		p("\nWho leads, and who lags: holdfast cluster status, in this directory.")
		p("Ctrl-C stops all of them; the data stays. To begin anew, remove %s.", o.DataDir)
		return
	}
	p("\nOr with this program, in this directory: holdfast get, set, watch, history; see holdfast --help.")
	p("Ctrl-C stops the agent; the data stays. To begin anew, remove %s.", o.DataDir)
}

func orNone(token string) string {
	if token == "" {
		return "(none in CONFIG_API_TOKENS)"
	}
	return token
}

func tokensFrom(info agent.Info, o agent.Options) string {
	for _, name := range info.Generated {
		if name == "CONFIG_API_TOKENS" {
			return "generated now and kept in " + info.EnvFile
		}
	}
	if _, ok := os.LookupEnv("CONFIG_API_TOKENS"); ok {
		return "from CONFIG_API_TOKENS in the environment"
	}
	return "from " + info.EnvFile
}

// waitForServices lists the services, and gives those of the schema directory a
// moment to appear at a first start.
func waitForServices(ctx context.Context, info agent.Info, o agent.Options, token string) []string {
	c, err := client.New(client.Options{AdminURL: info.AdminURL, Token: token})
	if err != nil {
		return nil
	}
	defer c.Close()
	want := 0
	if files, err := os.ReadDir(o.SchemaDir); o.SchemaDir != "" && err == nil {
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".json") && !strings.HasPrefix(f.Name(), ".") {
				want++
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := c.Services(ctx)
		var names []string
		for _, s := range list {
			if s.Version > 0 {
				names = append(names, s.Service)
			}
		}
		if err == nil && len(list) >= want {
			return names
		}
		select {
		case <-ctx.Done():
			return names
		case <-tick.C:
		}
	}
}

// examples prints three commands that work as printed, in this order: all at the
// one agent there is, or the write at another one than the reads.
func (a *app) examples(infos []agent.Info, services []string, read, write string) {
	info := infos[0]
	line := func(why, command string) { fmt.Fprintf(a.out, "\n  # %s\n  %s\n", why, command) }
	header := func(token string) string { return "-H " + shellQuote("X-API-Token: "+token) }
	const body = "-H 'Content-Type: application/json' -d "
	name, patch := "", ""
	for _, s := range services {
		if s == "stt-worker" {
			name, patch = s, `{"vad_threshold": 0.6}`
		}
	}
	if name == "" && len(services) > 0 {
		name, patch = services[0], "{}"
	}
	if name == "" {
		fmt.Fprintf(a.out, "\nThere is no service yet: each needs a schema. Put <service>.json files into a directory\nand start with --schema-dir, or add one now:\n")
		schema := `{"type": "object", "properties": {"greeting": {"type": "string", "default": "hello"}}}`
		line("a schema makes a service", fmt.Sprintf("curl -X PUT %s %s%s %s/api/config/schemas/demo", header(write), body, shellQuote(schema), info.AdminURL))
		line("what the service reads", fmt.Sprintf("curl %s/v1/config/demo", info.LocalURL))
		line("change it", fmt.Sprintf("curl -X PATCH %s %s%s %s/api/config/services/demo", header(write), body, shellQuote(`{"greeting": "hi"}`), info.AdminURL))
		return
	}
	fmt.Fprintf(a.out, "\nTry, in another terminal:\n")
	if n := len(infos); n > 1 {
		last := infos[n-1]
		line(fmt.Sprintf("what the service beside agent %d reads", n), fmt.Sprintf("curl %s/v1/config/%s", last.LocalURL, name))
		line("change it, at another agent: it forwards to the one that leads", fmt.Sprintf("curl -X PATCH %s %s%s %s/api/config/services/%s", header(write), body, shellQuote(patch), infos[1].AdminURL, name))
		line("and it is everywhere", fmt.Sprintf("curl %s/v1/config/%s", last.LocalURL, name))
		return
	}
	line("what the service reads", fmt.Sprintf("curl %s/v1/config/%s", info.LocalURL, name))
	line("the same with who changed it and when", fmt.Sprintf("curl %s %s/api/config/services/%s", header(read), info.AdminURL, name))
	line("change it", fmt.Sprintf("curl -X PATCH %s %s%s %s/api/config/services/%s", header(write), body, shellQuote(patch), info.AdminURL, name))
}

// shellQuote makes s one word of a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
