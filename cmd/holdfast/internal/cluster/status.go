package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func status(a *cli.App) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Who leads, who lags, and whether changes can be made",
		Long: `Show the cluster as this agent sees it: the leader, and for each agent its lag, its
address and when its certificate expires. With --verbose also which version of which
service each agent has.

The exit code is 0 when the cluster accepts writes, and 6 when there is no quorum.`,
		Args: cli.Needs(),
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show which version of which service each agent has")
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, _ []string) error {
		st, err := clusterStatus(ctx, c)
		if err != nil {
			return err
		}
		if a.AsJSON() {
			err = a.PrintJSON(st)
		} else {
			err = printCluster(a, st, verbose, time.Now())
		}
		if err == nil && !st.Quorum {
			err = cli.QuietExit(cli.ExitReadOnly)
		}
		return err
	})
	return cmd
}

func printCluster(a *cli.App, st conf.ClusterStatus, verbose bool, now time.Time) error {
	nodes := present(st.Nodes)
	leader := "no leader is known"
	if st.Leader != "" {
		leader = st.Leader + " leads"
	}
	answer := 0
	for _, n := range nodes {
		if n.Reachable {
			answer++
		}
	}
	a.Say("cluster %s, epoch %s", cli.Cell(st.ClusterID), cli.Cell(st.ConfigEpoch))
	a.Say("%s, term %d, index %d; %d of %s vote; %d of %d answer", cli.Cell(leader), st.Term, st.Index, st.Voters, cli.Plural(len(nodes), "agent"), answer, len(nodes))
	if st.Quorum {
		a.Say("changes can be made\n")
	} else {
		a.Say("no quorum: reads go on, changes are refused\n")
	}
	err := cli.List[conf.NodeStatus]{
		Columns: []string{"NODE", "ROLE", "SERVICE", "STATE", "ADDRESS", "BEHIND", "CERTIFICATE", "BUILD", "NOTE"},
		Row: func(n conf.NodeStatus) []string {
			return []string{n.NodeID, n.Role, n.Service, n.State, n.Addr, lag(n), expires(n.CertificateExpires, now), n.Version, condition(n, st.ConfigEpoch, now)}
		},
	}.Print(a, st, nodes)
	if err != nil || !verbose {
		return err
	}
	a.Say("")
	return printVersions(a, st, nodes)
}

// printVersions shows which agents have which version of which service: a row
// for each version in use, the newest first.
func printVersions(a *cli.App, st conf.ClusterStatus, nodes []conf.NodeStatus) error {
	at := map[string]map[uint64][]string{}
	reporting := 0
	for _, n := range nodes {
		if n.Services == nil {
			continue
		}
		reporting++
		name := n.NodeID
		if n.ConfigEpoch != st.ConfigEpoch {
			name += " (another epoch)"
		}
		for s, v := range n.Services {
			if at[s] == nil {
				at[s] = map[uint64][]string{}
			}
			at[s][v] = append(at[s][v], name)
		}
	}
	var rows [][]string
	for _, s := range conf.SortedKeys(at) {
		for _, v := range slices.Backward(slices.Sorted(maps.Keys(at[s]))) {
			who := strings.Join(at[s][v], ", ")
			if len(at[s][v]) == reporting && reporting > 1 && !strings.Contains(who, "(another epoch)") {
				who = fmt.Sprintf("all %d that answer", reporting)
			}
			rows = append(rows, []string{s, strconv.FormatUint(v, 10), who})
		}
	}
	return a.Table([]string{"SERVICE", "VERSION", "ON"}, rows)
}

// lag is how far an agent is behind the leader.
func lag(n conf.NodeStatus) string {
	switch {
	case n.State == conf.NodeLeader:
		return ""
	case !n.Reachable && n.LagEntries == 0 && n.LagSeconds == 0:
		return "unknown"
	case n.Reachable && n.LagEntries == 0 && n.LagSeconds < 1:
		return "up to date"
	}
	entries := "1 entry"
	if n.LagEntries != 1 {
		entries = fmt.Sprintf("%d entries", n.LagEntries)
	}
	if n.LagSeconds < 10 {
		return fmt.Sprintf("%s, %.1fs", entries, n.LagSeconds)
	}
	return entries + ", " + time.Duration(n.LagSeconds*float64(time.Second)).Round(time.Second).String()
}

// expires is how long a certificate is still valid.
func expires(at string, now time.Time) string {
	t, err := conf.ParseTime(at)
	if err != nil {
		return at
	}
	left := t.Sub(now)
	switch {
	case left <= 0:
		return "expired"
	case left < 2*time.Minute:
		return cli.Plural(int(left.Minutes()), "minute")
	default:
		return roughly(left)
	}
}

// condition is what is wrong with an agent, or what it repaired, in a few words.
func condition(n conf.NodeStatus, epoch string, now time.Time) string {
	switch {
	case n.Mode != "" && n.Mode != conf.ModeNormal:
		note := n.Event
		if n.Err != "" && !strings.Contains(note, n.Err) {
			note += ": " + n.Err
		}
		return lasting(note, n.Since, now, "for ", "")
	case n.Err != "":
		return cli.Brief(strings.TrimSpace(n.Err), 80)
	case n.ConfigEpoch != "" && epoch != "" && n.ConfigEpoch != epoch:
		return cli.Brief("another epoch: "+n.ConfigEpoch, 80)
	case n.Event != "" && n.Event != "started":
		return lasting(n.Event, n.Since, now, "", " ago")
	}
	return ""
}

// lasting is an event with the time since it began.
func lasting(event, since string, now time.Time, before, after string) string {
	event = cli.Brief(strings.TrimSpace(event), 100)
	t, err := conf.ParseTime(since)
	if err != nil {
		return event
	}
	return event + ", " + before + roughly(now.Sub(t)) + after
}

func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return cli.Plural(max(0, int(d.Seconds())), "second")
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// present leaves out the members that were removed.
func present(nodes []conf.NodeStatus) []conf.NodeStatus {
	return slices.DeleteFunc(slices.Clone(nodes), func(n conf.NodeStatus) bool { return n.State == conf.NodeRemoved })
}

// sortNodes puts the leader first, and the servers before the sidecars.
func sortNodes(nodes []conf.NodeStatus) {
	rank := func(n conf.NodeStatus) int {
		switch {
		case n.State == conf.NodeLeader:
			return 0
		case n.State == conf.NodeRemoved:
			return 3
		case n.Role == conf.MemberServer:
			return 1
		default:
			return 2
		}
	}
	slices.SortFunc(nodes, func(x, y conf.NodeStatus) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.NodeID, y.NodeID))
	})
}
