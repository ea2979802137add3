package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxDevAgents is far beyond what one process is good for.
const maxDevAgents = 20

// devAgents are the settings of the agents of "holdfast dev". The first one has
// those that were given; its directory holds the directories of the others, so
// that what one agent began goes on with three.
func devAgents(cmd *cobra.Command, o agent.Options, n int) ([]agent.Options, error) {
	dir := func(i int) string { return filepath.Join(o.DataDir, "agent-"+strconv.Itoa(i)) }
	have := 1
	for exists(dir(have + 1)) {
		have++
	}
	switch {
	case n < 1 || n > maxDevAgents:
		return nil, usageError(cmd, "bad --agents %d: from 1 to %d", n, maxDevAgents)
	case n < have && cmd.Flags().Changed("agents"):
		return nil, conf.Errorf(conf.CodeUsage, "%s holds a cluster of %s: %d of them may be no majority", o.DataDir, plural(have, "agent"), n).
			WithHint("start it without --agents, or remove %s to begin anew", o.DataDir)
	case n < have:
		n = have
	}
	if n > 1 && o.Join != "" {
		return nil, usageError(cmd, "--agents makes a cluster of its own and --join goes to another one: use one of them")
	}
	all := []agent.Options{o}
	for i := 2; i <= n; i++ {
		p := o
		p.DataDir = dir(i)
		p.DBPath, p.LKGPath, p.EpochPath, p.EnvFile, p.SidecarTokenPath = "", "", "", "", "none"
		p.ServerTokenPath = "none"
		if o.LocalSocket != "none" {
			p.LocalSocket = ""
		}
		if o.NodeID != "" {
			p.NodeID = fmt.Sprintf("%s-%d", o.NodeID, i)
		}
		for _, addr := range []*string{&p.LocalAddr, &p.ClusterAddr, &p.MQTTAddr, &p.AdvertiseAddr} {
			if host, port, err := net.SplitHostPort(*addr); err == nil {
				*addr = net.JoinHostPort(host, higher(port, i))
			}
		}
		p.ManagerPort = higher(o.ManagerPort, i)
		if _, port, _ := net.SplitHostPort(o.ClusterAddr); port == "0" {
			return nil, usageError(cmd, "several agents need a cluster port with a number").WithHint("set CONFIG_CLUSTER_ADDR to 127.0.0.1:2771, say")
		}
		p.Join, p.JoinToken, p.JoinTokenFile = o.ClusterAddr, "", o.ServerTokenPath
		if host, port, _ := net.SplitHostPort(o.ClusterAddr); host == "" {
			p.Join = net.JoinHostPort("127.0.0.1", port)
		}
		if o.ServerTokenPath == "none" {
			all[0].ServerTokenPath = filepath.Join(o.DataDir, "join-token")
			p.JoinTokenFile = all[0].ServerTokenPath
		}
		if err := p.Complete(); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// higher is the port of agent i: 10 apart, since one agent has ports side by side.
func higher(port string, i int) string {
	n, err := strconv.Atoi(port)
	if err != nil || n == 0 {
		return port
	}
	return strconv.Itoa(n + 10*(i-1))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dev runs the agents until ctx ends or one of them does, and prints how to use
// them once all are ready.
func (a *app) dev(ctx context.Context, all []agent.Options) error {
	for _, o := range all {
		if err := clusterPortFree(ctx, o); err != nil {
			return err
		}
	}
	// The first one by itself: what is wrong with the settings is told once, and
	// the others need its token.
	first, err := a.newAgent(ctx, all[0])
	if err != nil {
		return a.finish(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	infos := make([]agent.Info, len(all))
	ready, ended := make(chan struct{}, len(all)), make(chan error, len(all))
	run := func(i int, ag *agent.Agent) error {
		infos[i] = ag.Info()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if ag.AwaitReady(ctx) == nil {
				ready <- struct{}{}
			}
		}()
		err := ag.Run(ctx)
		cancel()
		<-done
		return err
	}
	go func() { ended <- run(0, first) }()
	for i, o := range all[1:] {
		go func() {
			ag, err := a.newAgent(ctx, o) // returns when it has joined
			if err == nil {
				err = run(i+1, ag)
			}
			if err != nil {
				err = fmt.Errorf("agent %d: %w", i+2, err)
			}
			ended <- err
		}()
	}
	return a.attend(ctx, cancel, all, infos, first, ready, ended)
}

// attend waits for the agents: to be ready, and to end.
func (a *app) attend(ctx context.Context, cancel func(), all []agent.Options, infos []agent.Info, first *agent.Agent, ready <-chan struct{}, ended <-chan error) error {
	var failure error
	slow := time.NewTicker(5 * time.Second)
	defer slow.Stop()
	up := 0
	for left := len(all); left > 0; {
		select {
		case err := <-ended:
			left--
			if a.finish(err) != nil && failure == nil {
				failure = err
			}
			cancel()
		case <-slow.C:
			if up == len(all) || ctx.Err() != nil {
				continue
			}
			h := first.Health()
			a.note("not ready yet: database %s, mode %s%s; %d of %s ready", h.DatabaseStatus, h.OperationalMode, because(h), up, plural(len(all), "agent"))
		case <-ready:
			if up++; up == len(all) {
				a.welcome(ctx, infos, all[0])
			}
		}
	}
	if up == len(all) {
		a.note("stopped; the data stays in %s", all[0].DataDir)
	}
	return failure
}
