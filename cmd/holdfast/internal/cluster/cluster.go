package cluster

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Cluster returns the command holdfast cluster.
func Cluster(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "cluster",
		Short: "Show and change the members of the cluster",
		Long: `Show the members of the cluster, and change them. holdfast token create admits new
ones. The leader keeps the number of voters at CONFIG_VOTERS: it promotes healthy
servers and replaces dead ones.`,
	},
		status(a), members(a),
		memberChange(a, "promote NODE", "Make a server a voter", "votes now", (*client.Client).Promote),
		memberChange(a, "demote NODE", "Make a voter a non-voter", "does not vote any more", (*client.Client).Demote),
		memberChange(a, "remove NODE", "Remove an agent from the cluster permanently", "removed", (*client.Client).Remove),
		transfer(a), leave(a), recoverCommand(a),
	)
}

// members lists who belongs to the cluster, and nothing that changes by the second.
func members(a *cli.App) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "members", Short: "List the agents of the cluster", Args: cli.Needs(),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also list removed members")
	out := cli.List[conf.NodeStatus]{
		Columns: []string{"NODE", "ROLE", "SERVICE", "STATE", "ADDRESS", "BUILD"},
		Row: func(n conf.NodeStatus) []string {
			return []string{n.NodeID, n.Role, n.Service, n.State, n.Addr, n.Version}
		},
	}
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
		st, err := clusterStatus(ctx, c)
		if err != nil {
			return err
		}
		nodes := st.Nodes
		if !all {
			nodes = present(nodes)
		}
		return out.Print(a, map[string]any{"members": nodes}, nodes)
	})
	return cmd
}

// clusterStatus gets the status with its nodes in the order of the tables.
func clusterStatus(ctx context.Context, c *client.Client) (conf.ClusterStatus, error) {
	st, err := c.Cluster(ctx)
	sortNodes(st.Nodes)
	return st, err
}

// memberChange is the command for a change of one member; done says what the member is then.
func memberChange(a *cli.App, use, short, done string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cli.Needs("NODE"), ValidArgsFunction: completeNode(a)}
	cmd.RunE = a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
		if err := do(c, ctx, args[0]); err != nil {
			return err
		}
		return a.Print(map[string]any{"success": true, "change": cmd.Name(), "node": args[0]}, "%s: %s", args[0], done)
	})
	return cmd
}

func transfer(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "transfer [NODE]", Short: "Transfer the leadership to another voter", Args: cli.Needs("[NODE]"),
		Long:              "Transfer the leadership to NODE, or to a voter that the leader chooses. Reads continue; writes wait for a moment.",
		ValidArgsFunction: completeNode(a),
		RunE: a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, args []string) error {
			to := cli.Arg(args, 0)
			if err := c.Transfer(ctx, to); err != nil {
				return err
			}
			done := to + ": leads"
			if to == "" {
				done = "the leadership was handed over; holdfast cluster status says to whom"
			}
			return a.Print(map[string]any{"success": true, "change": "transfer", "node": to}, "%s", done)
		}),
	}
}

func leave(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Remove the local agent from the cluster", Args: cli.Needs(),
		Long: `Remove the agent that this command connects to from the cluster. Its service still
reads the agent's last configuration. To return, the agent joins with an empty data
directory and a new join token.`,
		RunE: a.WithAdmin(conf.RoleWrite, func(ctx context.Context, c *client.Client, _ []string) error {
			if err := c.Leave(ctx); err != nil {
				return err
			}
			return a.Print(map[string]any{"success": true, "change": "leave"}, "this agent has left the cluster")
		}),
	}
}

// completeNode offers the names of the agents.
func completeNode(a *cli.App) cobra.CompletionFunc {
	return a.Complete(func(ctx context.Context, c *client.Client) (names []string, err error) {
		st, err := clusterStatus(ctx, c)
		for _, n := range present(st.Nodes) {
			names = append(names, n.NodeID)
		}
		return names, err
	})
}
