package backup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// ClusterIdentity is what identifies the generations of a cluster: its epochs, and its public
// keys. The zero value matches none.
type ClusterIdentity struct {
	Epochs []string
	Keys   []string // ids of public keys
}

func (id ClusterIdentity) has(g *Generation) bool {
	return slices.Contains(id.Epochs, g.Epoch) || slices.ContainsFunc(g.Keys, func(k string) bool { return slices.Contains(id.Keys, k) })
}

// groupByCluster sets Cluster of each generation, the newest first. Two epochs are of one
// cluster if one follows the other, or if the same key signs in both. The name of a
// cluster is its first known epoch.
func groupByCluster(gens []Generation) {
	next := map[string]string{} // a forest: towards the root of the group
	find := func(x string) string {
		for next[x] != "" {
			x = next[x]
		}
		return x
	}
	join := func(a, b string) {
		if a, b = find(a), find(b); a != b {
			next[a] = b
		}
	}
	for _, g := range gens {
		for _, e := range g.Previous {
			join("epoch "+g.Epoch, "epoch "+e)
		}
		for _, k := range g.Keys {
			join("epoch "+g.Epoch, "key "+k)
		}
	}
	name := map[string]string{}
	for _, g := range gens { // the oldest one is last
		first := g.Epoch
		if len(g.Previous) > 0 {
			first = g.Previous[0]
		}
		name[find("epoch "+g.Epoch)] = first
	}
	for i := range gens {
		gens[i].Cluster = name[find("epoch "+gens[i].Epoch)]
	}
}

// Own returns the cluster of id among those that have generations.
func Own(gens []Generation, id ClusterIdentity) (cluster string, ok bool) {
	for i := range gens {
		if id.has(&gens[i]) {
			return gens[i].Cluster, true
		}
	}
	return "", false
}

// Clusters lists those that have generations, the one with the newest first.
func Clusters(gens []Generation) (out []string) {
	for _, g := range gens {
		if !slices.Contains(out, g.Cluster) {
			out = append(out, g.Cluster)
		}
	}
	return out
}

// ownGenerations returns those of the cluster of id. It fails if they cannot be told apart.
func ownGenerations(gens []Generation, id ClusterIdentity, place string) ([]Generation, error) {
	all := Clusters(gens)
	cluster, ok := Own(gens, id)
	signed := slices.ContainsFunc(gens, func(g Generation) bool { return len(g.Keys) > 0 })
	switch {
	case ok:
		return slices.DeleteFunc(slices.Clone(gens), func(g Generation) bool { return g.Cluster != cluster }), nil
	case len(all) > 1:
		return nil, conf.Errorf(conf.CodeConflict, "%s holds the backups of %d clusters, which began with the epochs %s; the keys and epochs of this agent match none of them", place, len(all), strings.Join(all, ", ")).
			WithHint("pass the .env file of the right cluster with --env-file, or select one: --generation CONFIG_EPOCH/TERM-NODE of holdfast backup list")
	case len(all) == 1 && signed && len(id.Keys) > 0:
		return nil, conf.Errorf(conf.CodeConflict, "the backups at %s are of another cluster than the keys in the .env file: it began with the epoch %s", place, all[0]).
			WithHint("use the .env file or the LITESTREAM_S3_PATH of the right cluster, or select one: --generation CONFIG_EPOCH/TERM-NODE of holdfast backup list")
	}
	return gens, nil
}

// foreignBackups returns an error if another cluster has backups at the target: an unrelated
// one, or one that was restored from a backup of this one while this one still runs.
// Earlier epochs of this one are its own.
func (o *Options) foreignBackups(gens []Generation) error {
	mine := append([]string{o.Epoch}, o.Previous...)
	cluster, _ := Own(gens, ClusterIdentity{Epochs: mine})
	begun, err := conf.ParseTime(o.EpochCreated)
	for _, g := range gens {
		switch {
		case slices.Contains(mine, g.Epoch):
		case g.Cluster != cluster:
			return conf.Errorf(conf.CodeConflict, "another cluster, which began with the epoch %s, has backups at the same place: nothing of it is touched, but give each cluster a LITESTREAM_S3_PATH of its own, or remove %s there", g.Cluster, g.Epoch)
		case err == nil && g.Newest.After(begun):
			return conf.Errorf(conf.CodeConflict, "the epoch %s of a cluster with the same keys, which is not an earlier one of this cluster, has newer backups at the same place: stop one of the two clusters, or give it a LITESTREAM_S3_PATH of its own", g.Epoch)
		}
	}
	return nil
}

// scanTarget lists all generations: it finds other clusters and the last verified
// generation, and removes those that have expired.
func (g *activeGeneration) scanTarget(ctx context.Context) error {
	gens, err := listAt(ctx, g.p)
	if err != nil {
		return err
	}
	shared := g.r.o.foreignBackups(gens)
	var earlier *Verified
	for _, other := range gens {
		if other.Epoch == g.r.o.Epoch && other.ID != g.id && other.Verified != nil {
			earlier = other.Verified
			break
		}
	}
	g.r.mu.Lock()
	g.r.st.ForeignErr, g.r.st.Earlier = shared, earlier
	g.r.mu.Unlock()
	if shared != nil {
		g.r.alarms.Raise(alarm.TargetShared, "", shared)
	} else {
		g.r.alarms.Clear("")
	}
	removed, err := pruneAt(ctx, g.p, gens, g.r.o.identity(), g.r.o.Retention, time.Now(), g.id)
	if len(removed) > 0 {
		g.r.log.Info("removed old backups", "generations", removed)
	}
	return err
}

// identity returns the identity of this cluster.
func (o *Options) identity() ClusterIdentity {
	id := ClusterIdentity{Epochs: append([]string{o.Epoch}, o.Previous...)}
	if o.Keys != nil {
		id.Keys = o.Keys()
	}
	return id
}
