package rotation

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

// The signatures themselves say when they are due, whichever leader made them.
func TestReissueIsDueByTheOldestSignature(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := documents.NewView(documents.NewSecrets(documents.SecretsOptions{Logger: slog.New(slog.DiscardHandler)}))
	rec := func(service string, issued time.Time) *conf.Record {
		return &conf.Record{Service: service, Version: 1, Epoch: "e", Config: json.RawMessage("{}"), Signature: "s", IssuedAt: conf.FormatTime(issued)}
	}
	v.Reset(view.SourceReplica, "e", 1, []*conf.Record{rec("demo", at), rec("newer", at.Add(time.Second))})
	for _, c := range []struct{ passed, want time.Duration }{
		{0, 4 * time.Minute}, {time.Minute, 3 * time.Minute}, {time.Hour, -56 * time.Minute}, {-time.Hour, 4 * time.Minute},
	} {
		if got := reissueIn(v.Load(), 4*time.Minute, at.Add(c.passed)); got != c.want {
			t.Errorf("%s after the signature: due in %s, want %s", c.passed, got, c.want)
		}
	}
}
