package run

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// welcome prints what a person needs next.
func welcome(ctx context.Context, a *cli.App, infos []agent.Info, o options.Options, signIn func(token string) string) {
	info := infos[0]
	write := tokenOf(info, conf.RoleWrite)
	read := cmp.Or(tokenOf(info, conf.RoleRead), write)
	p := a.Say
	if len(infos) == 1 {
		p("Holdfast is ready.\n")
		p("  local API  %-25s  what services read, without a token", info.LocalURL)
		p("  admin API  %-25s  reads and changes everything, with a token", info.AdminURL)
		p("  web page   %-25s  the same in a browser", info.PageURL)
		if info.Socket != "" {
			p("  socket     %-25s  the local API again", info.Socket)
		}
		if info.MQTT != "" {
			p("  MQTT       %-25s  signed updates of all services, retained", info.MQTT)
		}
		p("  data       %s", o.DataDir)
	} else {
		p("Holdfast is ready: %d agents in one cluster.\n", len(infos))
		p("  web page   %s\n", info.PageURL)
		p("  agent  %-24s %-24s %-18s data", "local API", "admin API", "cluster, mTLS")
		for i, in := range infos {
			p("  %-6d %-24s %-24s %-18s %s", i+1, in.LocalURL, in.AdminURL, in.Cluster, in.DataDir)
		}
		p("")
	}
	services := waitForServices(ctx, info, o, read)
	switch {
	case o.SchemaDir != "":
		p("  schemas    %s (%s)", o.SchemaDir, cli.Plural(len(services), "service"))
	case len(services) > 0:
		p("  services   %s", strings.Join(services, ", "))
	}
	p("\nTokens, %s:", tokensFrom(info))
	const none = "(none in CONFIG_API_TOKENS)"
	p("  read   %s", cmp.Or(read, none))
	p("  write  %s", cmp.Or(write, none))
	if write != "" {
		p("\nOpen the web page, signed in for writing (once, within 60 s; later with a token):\n  %s", signIn(write))
	}
	examples(a, infos, services, read, write)
	if len(infos) > 1 {
		p("\n%s", cli.Runnable("Who leads, and who lags: holdfast cluster status, in this directory."))
		p("Ctrl-C stops all of them; the data stays. To begin anew, remove %s.", o.DataDir)
		return
	}
	p("\n%s", cli.Runnable("Or with this program, in this directory: holdfast get, set, watch, history; see holdfast --help."))
	p("Ctrl-C stops the agent; the data stays. To begin anew, remove %s.", o.DataDir)
}

// tokenOf returns the first API token with the role, "" when there is none.
func tokenOf(info agent.Info, role conf.Role) string {
	for _, t := range info.Tokens {
		if t.Principal.Role == role {
			return t.Token
		}
	}
	return ""
}

func tokensFrom(info agent.Info) string {
	if slices.Contains(info.Generated, "CONFIG_API_TOKENS") {
		return "generated now and kept in " + info.EnvFile
	}
	if _, ok := os.LookupEnv("CONFIG_API_TOKENS"); ok {
		return "from CONFIG_API_TOKENS in the environment"
	}
	return "from " + info.EnvFile
}

// waitForServices lists the services. At a first start it waits up to five seconds
// for those of the schema directory.
func waitForServices(ctx context.Context, info agent.Info, o options.Options, token string) []string {
	c, err := client.New(client.Options{AdminURL: info.AdminURL, Token: token, AdminTLS: o.AdminTLS()})
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
func examples(a *cli.App, infos []agent.Info, services []string, read, write string) {
	name, patch := "demo", `{"greeting": "hi"}`
	switch {
	case slices.Contains(services, "stt-worker"):
		name, patch = "stt-worker", `{"vad_threshold": 0.6}`
	case len(services) > 0:
		name, patch = services[0], "{}"
	}
	line := func(why, command string) { a.Say("\n  # %s\n  %s", why, command) }
	header := func(token string) string { return "-H " + shellQuote("X-API-Token: "+token) }
	get := func(in agent.Info) string { return "curl --noproxy '*' " + in.LocalURL + "/v1/config/" + name }
	send := func(in agent.Info, method, resource, body string) string {
		return fmt.Sprintf("curl --noproxy '*' -X %s %s -H 'Content-Type: application/json' -d %s %s/api/config/%s/%s", method, header(write), shellQuote(body), in.AdminURL, resource, name)
	}
	first, last := infos[0], infos[len(infos)-1]
	switch {
	case len(services) == 0:
		a.Say("\nThere is no service yet: each needs a schema. Put <service>.json files into a directory\nand start with --schema-dir, or add one now:")
		line("a schema makes a service", send(first, "PUT", "schemas", `{"type": "object", "properties": {"greeting": {"type": "string", "default": "hello"}}}`))
		line("what the service reads", get(first))
		line("change it", send(first, "PATCH", "services", patch))
	case len(infos) > 1:
		a.Say("\nTry, in another terminal:")
		line(fmt.Sprintf("what the service beside agent %d reads", len(infos)), get(last))
		line("change it, at another agent: it forwards to the one that leads", send(infos[1], "PATCH", "services", patch))
		line("and it is everywhere", get(last))
	default:
		a.Say("\nTry, in another terminal:")
		line("what the service reads", get(first))
		line("the same with who changed it and when", fmt.Sprintf("curl --noproxy '*' %s %s/api/config/services/%s", header(read), first.AdminURL, name))
		line("change it", send(first, "PATCH", "services", patch))
	}
}

// shellQuote makes s one word of a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
