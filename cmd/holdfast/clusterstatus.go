package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func newClusterStatus(a *app) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Who leads, who lags, and whether changes can be made",
		Long: `Show the cluster as this agent sees it: who leads, how far each agent is behind,
where it is reached and when its certificate expires. With --verbose also which
version of which service each agent has.

The exit code is 0 when changes can be made, and 6 when there is no quorum.`,
		Args: needs(),
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show which version of which service each agent has")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		st, err := a.clusterStatus(cmd)
		if err != nil {
			return err
		}
		if err := a.printCluster(st, verbose, time.Now()); err != nil {
			return err
		}
		if !st.Quorum {
			return quietExit(exitReadOnly)
		}
		return nil
	}
	return cmd
}

func (a *app) printCluster(st conf.ClusterStatus, verbose bool, now time.Time) error {
	if a.asJSON() {
		return a.printJSON(st)
	}
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
	a.say("cluster %s, epoch %s", orDash(st.ClusterID), orDash(st.ConfigEpoch))
	a.say("%s, term %d, index %d; %s of %s vote; %d of %d answer", cell(leader), st.Term, st.Index, strconv.Itoa(st.Voters), plural(len(nodes), "agent"), answer, len(nodes))
	if st.Quorum {
		a.say("changes can be made\n")
	} else {
		a.say("no quorum: reads go on, changes are refused\n")
	}
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = []string{n.NodeID, n.Role, n.Service, n.State, n.Addr, behind(n), expires(n.CertificateExpires, now), n.Version, trouble(n, st.ConfigEpoch, now)}
	}
	if err := a.table([]string{"NODE", "ROLE", "SERVICE", "STATE", "ADDRESS", "BEHIND", "CERTIFICATE", "BUILD", "NOTE"}, rows); err != nil {
		return err
	}
	if !verbose {
		return nil
	}
	a.say("")
	return a.printVersions(st, nodes)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return cell(s)
}

// printVersions shows which agents have which version of which service: a row
// for each version that is out there, the newest first.
func (a *app) printVersions(st conf.ClusterStatus, nodes []conf.NodeStatus) error {
	at := map[string]map[uint64][]string{}
	told := 0
	for _, n := range nodes {
		if n.Services == nil {
			continue
		}
		told++
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
		versions := make([]uint64, 0, len(at[s]))
		for v := range at[s] {
			versions = append(versions, v)
		}
		slices.SortFunc(versions, func(x, y uint64) int { return cmp.Compare(y, x) })
		for _, v := range versions {
			who := strings.Join(at[s][v], ", ")
			if len(at[s][v]) == told && told > 1 && !strings.Contains(who, "(another epoch)") {
				who = fmt.Sprintf("all %d that answer", told)
			}
			rows = append(rows, []string{s, strconv.FormatUint(v, 10), who})
		}
	}
	return a.table([]string{"SERVICE", "VERSION", "ON"}, rows)
}

// behind is how far an agent is behind the leader.
func behind(n conf.NodeStatus) string {
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
	return fmt.Sprintf("%s, %s", entries, seconds(n.LagSeconds))
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", s)
	}
	return d.Round(time.Second).String()
}

// expires is how long a certificate is still good.
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
		return plural(int(left.Minutes()), "minute")
	default:
		return roughly(left)
	}
}

// trouble is what is wrong with an agent, or what it repaired, in a few words.
func trouble(n conf.NodeStatus, epoch string, now time.Time) string {
	switch {
	case n.Mode != "" && n.Mode != conf.ModeNormal:
		note := n.Event
		if n.Err != "" && !strings.Contains(note, n.Err) {
			note += ": " + n.Err
		}
		return lasting(note, n.Since, now, "for ", "")
	case n.Err != "":
		return brief(strings.TrimSpace(n.Err), 80)
	case n.ConfigEpoch != "" && epoch != "" && n.ConfigEpoch != epoch:
		return brief("another epoch: "+n.ConfigEpoch, 80)
	case n.Event != "" && n.Event != "started":
		return lasting(n.Event, n.Since, now, "", " ago")
	}
	return ""
}

// lasting is an event with the time since it began.
func lasting(event, since string, now time.Time, before, after string) string {
	event = brief(strings.TrimSpace(event), 100)
	t, err := conf.ParseTime(since)
	if err != nil {
		return event
	}
	return event + ", " + before + roughly(now.Sub(t)) + after
}

func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return plural(max(0, int(d.Seconds())), "second")
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
