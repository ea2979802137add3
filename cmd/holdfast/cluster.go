package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newCluster(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "cluster",
		Short: "The agents that keep the configuration together",
		Long: `Show the agents of the cluster and change who belongs to it. holdfast token create
brings new ones in. The leader keeps CONFIG_VOTERS voters by itself: it promotes
healthy servers and replaces dead ones.`,
	})
	cmd.AddCommand(
		newClusterStatus(a), newClusterMembers(a),
		newClusterChange(a, "promote NODE", "Make a server a voter", "votes now", (*client.Client).Promote),
		newClusterChange(a, "demote NODE", "Make a voter a non-voter", "does not vote any more", (*client.Client).Demote),
		newClusterChange(a, "remove NODE", "Take an agent out of the cluster, for good", "removed", (*client.Client).Remove),
		newClusterTransfer(a), newClusterLeave(a), newClusterRecover(a),
	)
	return cmd
}

// newClusterMembers lists who belongs to the cluster, and nothing that changes by
// the second.
func newClusterMembers(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "members", Short: "List the agents of the cluster", Args: needs(),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that were removed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := a.clusterStatus(cmd)
		if err != nil {
			return err
		}
		nodes := present(st.Nodes)
		if all {
			nodes = st.Nodes
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"members": nodes})
		}
		rows := make([][]string, len(nodes))
		for i, n := range nodes {
			rows[i] = []string{n.NodeID, n.Role, n.Service, n.State, n.Addr, n.Version}
		}
		return a.table([]string{"NODE", "ROLE", "SERVICE", "STATE", "ADDRESS", "BUILD"}, rows)
	}
	return cmd
}

func (a *app) clusterStatus(cmd *cobra.Command) (conf.ClusterStatus, error) {
	c, err := a.admin(conf.RoleRead)
	if err != nil {
		return conf.ClusterStatus{}, err
	}
	st, err := c.Cluster(cmd.Context())
	sortNodes(st.Nodes)
	return st, err
}

// newClusterChange is a change of one member; done says of it what became of it.
func newClusterChange(a *app, use, short, done string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: needs("NODE"), ValidArgsFunction: a.completeNode()}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		if err := do(c, cmd.Context(), args[0]); err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"success": true, "change": cmd.Name(), "node": args[0]})
		}
		a.say("%s: %s", args[0], done)
		return nil
	}
	return cmd
}

func newClusterTransfer(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "transfer [NODE]", Short: "Hand the leadership to another voter", Args: needs("[NODE]"),
		Long:              "Hand the leadership to NODE, or to whom the leader chooses. Reads go on; changes wait for a moment.",
		ValidArgsFunction: a.completeNode(),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) > 0 {
				to = args[0]
			}
			c, err := a.admin(conf.RoleWrite)
			if err != nil {
				return err
			}
			if err := c.Transfer(cmd.Context(), to); err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"success": true, "change": "transfer", "node": to})
			}
			if to == "" {
				a.say("the leadership was handed over; holdfast cluster status says to whom")
				return nil
			}
			a.say("%s: leads", to)
			return nil
		},
	}
}

func newClusterLeave(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Take the agent here out of the cluster", Args: needs(),
		Long: `Take the agent that this command talks to out of the cluster. The service beside it
still reads what the agent has. To come back, the agent joins with an empty data
directory and a new token.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleWrite)
			if err != nil {
				return err
			}
			if err := c.Leave(cmd.Context()); err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"success": true, "change": "leave"})
			}
			a.say("this agent has left the cluster")
			return nil
		},
	}
}

// completeNode offers the names of the agents.
func (a *app) completeNode() cobra.CompletionFunc {
	return a.complete(func(cmd *cobra.Command) ([]string, error) {
		st, err := a.clusterStatus(cmd)
		var names []string
		for _, n := range present(st.Nodes) {
			names = append(names, n.NodeID)
		}
		return names, err
	})
}
