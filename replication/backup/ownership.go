package backup

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Identity tells whose generations are whose: a cluster has them when it has lived
// in their epoch, or knows a key that signed what is in them. The zero value knows
// of none.
type Identity struct {
	Epochs []string
	Keys   []string // ids of public keys
}

func (id Identity) has(g *Generation) bool {
	return slices.Contains(id.Epochs, g.Epoch) || slices.ContainsFunc(g.Keys, func(k string) bool { return slices.Contains(id.Keys, k) })
}

// groupByCluster names the cluster of each generation, the newest first. Two epochs are of
// one cluster when one follows on the other, or when the same key signs in both.
// Its name is the first epoch of it that is known.
func groupByCluster(gens []Generation) {
	next := map[string]string{} // a forest: towards the name of the group
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
	for _, g := range gens { // the oldest one comes last
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

// Own is the cluster, among those that have generations, that id knows.
func Own(gens []Generation, id Identity) (cluster string, ok bool) {
	for i := range gens {
		if id.has(&gens[i]) {
			return gens[i].Cluster, true
		}
	}
	return "", false
}

// Clusters names those that have generations, the one with the newest first.
func Clusters(gens []Generation) (out []string) {
	for _, g := range gens {
		if !slices.Contains(out, g.Cluster) {
			out = append(out, g.Cluster)
		}
	}
	return out
}

// ownGenerations keeps those of the cluster that id knows. What nobody can tell apart is not
// guessed at.
func ownGenerations(gens []Generation, id Identity, place string) ([]Generation, error) {
	all := Clusters(gens)
	cluster, ok := Own(gens, id)
	signed := slices.ContainsFunc(gens, func(g Generation) bool { return len(g.Keys) > 0 })
	switch {
	case ok:
		return slices.DeleteFunc(slices.Clone(gens), func(g Generation) bool { return g.Cluster != cluster }), nil
	case len(all) > 1:
		return nil, conf.Errorf(conf.CodeConflict, "%s holds the backups of %d clusters, which began with the epochs %s; nothing here tells which one is meant", place, len(all), strings.Join(all, ", ")).
			WithHint("put the .env file of the right cluster to where --env-file looks, or name one: --generation CONFIG_EPOCH/TERM-NODE of holdfast backup list")
	case len(all) == 1 && signed && len(id.Keys) > 0:
		return nil, conf.Errorf(conf.CodeConflict, "the backups at %s are of another cluster than the keys in the .env file: it began with the epoch %s", place, all[0]).
			WithHint("use the .env file or the LITESTREAM_S3_PATH of the right cluster, or name one: --generation CONFIG_EPOCH/TERM-NODE of holdfast backup list")
	}
	return gens, nil
}

// foreignBackups says whether somebody else keeps backups where the cluster with this
// epoch does: another cluster, or one that was made from a backup of this one while
// this one goes on. Earlier epochs of this one are its history.
func (o *Options) foreignBackups(gens []Generation) error {
	mine := append([]string{o.Epoch}, o.Previous...)
	cluster, _ := Own(gens, Identity{Epochs: mine})
	begun, err := conf.ParseTime(o.EpochCreated)
	for _, g := range gens {
		switch {
		case slices.Contains(mine, g.Epoch):
		case g.Cluster != cluster:
			return conf.Errorf(conf.CodeConflict, "another cluster, which began with the epoch %s, has backups at the same place: nothing of it is touched, but give each cluster a LITESTREAM_S3_PATH of its own, or remove %s there", g.Cluster, g.Epoch)
		case err == nil && g.Newest.After(begun):
			return conf.Errorf(conf.CodeConflict, "the epoch %s of a cluster with the same keys, which is not an earlier one of this cluster, has newer backups at the same place: stop whichever of the two is not to go on, or give it a LITESTREAM_S3_PATH of its own", g.Epoch)
		}
	}
	return nil
}

// scanTarget looks at all that is there: who else is, what was verified before, and
// what is old enough to be removed.
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
	news := shared != nil && (g.r.st.Shared == nil || g.r.st.Shared.Error() != shared.Error())
	g.r.st.Shared, g.r.st.Earlier = shared, earlier
	g.r.mu.Unlock()
	if news {
		g.r.log.Error("the place of the backup is not this cluster's alone", "err", shared)
	}
	removed, err := pruneAt(ctx, g.p, gens, g.r.o.identity(), g.r.o.Retention, time.Now(), g.id)
	if len(removed) > 0 {
		g.r.log.Info("removed old backups", "generations", removed)
	}
	return err
}

// identity of the cluster that copies.
func (o *Options) identity() Identity {
	id := Identity{Epochs: append([]string{o.Epoch}, o.Previous...)}
	if o.Keys != nil {
		id.Keys = o.Keys()
	}
	return id
}
