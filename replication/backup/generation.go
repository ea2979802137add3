package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	manifestName = "holdfast.json"
	maxManifest  = 64 << 10
)

// Manifest is holdfast.json of a generation.
type Manifest struct {
	Format       int       `json:"format"` // 1
	Epoch        string    `json:"config_epoch"`
	EpochCreated string    `json:"epoch_created_at"`
	Term         uint64    `json:"term"`
	Restart      int       `json:"restart"` // 0 for the first generation of a leadership
	Node         string    `json:"node_id"`
	StartedAt    time.Time `json:"started_at"`
	Index        uint64    `json:"index"`                     // of the log, at its start
	Verified     *Verified `json:"verified,omitempty"`        // the newest successful drill
	Previous     []string  `json:"previous_epochs,omitempty"` // of the same cluster, the oldest first
	Keys         []string  `json:"key_ids,omitempty"`         // of the trusted public keys
}

// Verified is the result of a successful drill.
type Verified struct {
	At     time.Time `json:"at"`
	Index  uint64    `json:"index"`
	Digest string    `json:"state_digest"`
	Bytes  int64     `json:"bytes"` // size of the restored file
}

// Generation is one generation at the target.
type Generation struct {
	Manifest
	ID      string    `json:"id"`      // <config_epoch>/<term>-<node>
	Cluster string    `json:"cluster"` // its first known epoch
	Bytes   int64     `json:"bytes"`
	Files   int       `json:"files"`
	Newest  time.Time `json:"newest"` // time of the newest file
	Newer   bool      `json:"-"`      // there is a newer generation

	objects []string
}

// dirOf returns the directory of a generation within its epoch.
func dirOf(term uint64, restart int, node string) string {
	if restart > 0 {
		return fmt.Sprintf("%d.%d-%s", term, restart+1, node)
	}
	return fmt.Sprintf("%d-%s", term, node)
}

func parseDir(dir string) (term uint64, restart int, node string, ok bool) {
	head, node, ok := strings.Cut(dir, "-")
	if !ok || node == "" {
		return 0, 0, "", false
	}
	head, again, restarted := strings.Cut(head, ".")
	if restarted {
		n, err := strconv.Atoi(again)
		if err != nil || n < 2 {
			return 0, 0, "", false
		}
		restart = n - 1
	}
	term, err := strconv.ParseUint(head, 10, 64)
	return term, restart, node, err == nil
}

// List returns the generations at the target, the newest first. The order is by epoch,
// then by term: a deposed leader that still writes is not the newest.
func List(ctx context.Context, t Target) ([]Generation, error) {
	p, err := t.open(ctx)
	if err != nil {
		return nil, t.fault("list the backups", err)
	}
	gens, err := listAt(ctx, p)
	return gens, t.fault("list the backups", err)
}

func listAt(ctx context.Context, p objectStore) ([]Generation, error) {
	objects, err := p.list(ctx, "")
	if err != nil {
		return nil, err
	}
	byID := map[string]*Generation{}
	for _, o := range objects {
		parts := strings.SplitN(o.name, "/", 3)
		if len(parts) != 3 {
			continue
		}
		term, restart, node, ok := parseDir(parts[1])
		if !ok {
			continue
		}
		id := parts[0] + "/" + parts[1]
		g := byID[id]
		if g == nil {
			g = &Generation{ID: id, Manifest: Manifest{Epoch: parts[0], Term: term, Restart: restart, Node: node}}
			byID[id] = g
		}
		g.objects = append(g.objects, o.name)
		if parts[2] == manifestName {
			continue
		}
		g.Files++
		g.Bytes += o.size
		if g.Newest.Before(o.at) {
			g.Newest = o.at
		}
		if g.StartedAt.IsZero() || o.at.Before(g.StartedAt) {
			g.StartedAt = o.at
		}
	}
	out := []Generation{}
	begun := map[string]string{} // start of each epoch
	for _, g := range byID {
		data, err := p.read(ctx, g.ID+"/"+manifestName)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			var m Manifest
			// A torn manifest is ignored; the files may still be good.
			if json.Unmarshal(data, &m) == nil && m.Epoch == g.Epoch && m.Term == g.Term && m.Node == g.Node && m.Restart == g.Restart {
				g.Manifest = m
			}
		}
		begun[g.Epoch] = max(begun[g.Epoch], g.EpochCreated)
		if g.Files > 0 {
			out = append(out, *g)
		}
	}
	first := map[string]time.Time{}
	for _, g := range out {
		if at := first[g.Epoch]; at.IsZero() || g.StartedAt.Before(at) {
			first[g.Epoch] = g.StartedAt
		}
	}
	slices.SortFunc(out, func(a, b Generation) int {
		if a.Epoch != b.Epoch {
			if x, y := begun[a.Epoch], begun[b.Epoch]; x != "" && y != "" && x != y {
				return strings.Compare(y, x)
			}
			return cmp.Or(first[b.Epoch].Compare(first[a.Epoch]), strings.Compare(a.Epoch, b.Epoch))
		}
		return cmp.Or(cmp.Compare(b.Term, a.Term), cmp.Compare(b.Restart, a.Restart), strings.Compare(a.Node, b.Node))
	})
	for i := range out {
		out[i].Newer = i > 0
	}
	groupByCluster(out)
	return out, nil
}

// pruneAt removes the generations of the cluster of id whose newest file is older than
// retention, and those above keepMost, the oldest first. It keeps the newest, the newest
// verified one, and those named in keep. It returns the ids of those removed.
func pruneAt(ctx context.Context, p objectStore, gens []Generation, id ClusterIdentity, retention time.Duration, now time.Time, keep ...string) (removed []string, err error) {
	cluster, ok := Own(gens, id)
	if !ok {
		return nil, nil
	}
	verified, n := false, 0
	for _, g := range gens {
		if g.Cluster != cluster {
			continue // of another cluster
		}
		spare := n == 0 || slices.Contains(keep, g.ID) || (g.Verified != nil && !verified)
		verified = verified || g.Verified != nil
		n++
		if spare || (now.Sub(g.Newest) < retention && n <= keepMost) {
			continue
		}
		// The manifest is removed last: it describes the files that are left.
		manifest := g.ID + "/" + manifestName
		if i := slices.Index(g.objects, manifest); i >= 0 {
			g.objects = append(slices.Delete(g.objects, i, i+1), manifest)
		}
		if err := p.remove(ctx, g.objects); err != nil {
			return removed, err
		}
		removed = append(removed, g.ID)
	}
	return removed, nil
}

// keepMost bounds the generations when the leader changes often.
const keepMost = 500

// fault adds a code and a hint to an error of the target.
func (t Target) fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*conf.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", what, err)
	}
	hint := "check that the service runs and is reachable from here, and that the bucket exists"
	text := err.Error()
	switch {
	case strings.Contains(text, "NoSuchBucket"):
		hint = "create the bucket, or correct LITESTREAM_S3_BUCKET"
	case strings.Contains(text, "InvalidAccessKeyId"), strings.Contains(text, "SignatureDoesNotMatch"), strings.Contains(text, "AccessDenied"), strings.Contains(text, "StatusCode: 403"):
		hint = "correct LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY, and give them read and write access to the bucket"
	case strings.Contains(text, "custom RootCAs"):
		hint = "remove AWS_CA_BUNDLE from the environment and set SSL_CERT_FILE to the file"
	case errors.Is(err, fs.ErrPermission):
		hint = "give this user write access to the directory"
	}
	return conf.Errorf(conf.CodeInternal, "%s at %s: %w", what, t, err).WithHint("%s", hint)
}
