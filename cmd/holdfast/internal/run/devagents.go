package run

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxDevAgents is more than one process can run well.
const maxDevAgents = 20

// devAgents are the settings of the agents of "holdfast dev". The first one has
// the given settings, and its directory contains those of the others, so that a
// cluster that started with one agent can continue with three.
func devAgents(cmd *cobra.Command, o options.Options, n int) ([]options.Options, error) {
	dir := func(i int) string { return filepath.Join(o.DataDir, "agent-"+strconv.Itoa(i)) }
	have := 1
	for exists(dir(have + 1)) {
		have++
	}
	switch {
	case n < 1 || n > maxDevAgents:
		return nil, cli.UsageError(cmd, "bad --agents %d: from 1 to %d", n, maxDevAgents)
	case n < have && cmd.Flags().Changed("agents"):
		return nil, conf.Errorf(conf.CodeUsage, "%s holds a cluster of %s: %d of them may be no majority", o.DataDir, cli.Plural(have, "agent"), n).
			WithHint("start it without --agents, or remove %s to start with an empty one", o.DataDir)
	case n < have:
		n = have
	}
	if n > 1 && o.Join != "" {
		return nil, cli.UsageError(cmd, "--agents makes a cluster of its own and --join goes to another one: use one of them")
	}
	o.UIAddr = cmp.Or(o.UIAddr, options.DefaultUIAddr) // the others count their ports from it
	all := []options.Options{o}
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
		for _, addr := range []*string{&p.LocalAddr, &p.ClusterAddr, &p.MQTTAddr, &p.UIAddr, &p.AdvertiseAddr} {
			if host, port, err := net.SplitHostPort(*addr); err == nil {
				*addr = net.JoinHostPort(host, higher(port, i))
			}
		}
		p.ManagerPort = higher(o.ManagerPort, i)
		if _, port, _ := net.SplitHostPort(o.ClusterAddr); port == "0" {
			return nil, cli.UsageError(cmd, "several agents need a cluster port with a number").WithHint("set CONFIG_CLUSTER_ADDR to 127.0.0.1:2771, say")
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
