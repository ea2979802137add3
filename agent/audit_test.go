package agent

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	r := start(t, testOptions(t, map[string]string{"CONFIG_AUDIT_RETENTION": "1s", "CONFIG_HISTORY_RETENTION": "1s"})).ready()
	for _, level := range []string{"2", "3", "4"} {
		if code, body := r.set(level); code != 200 {
			t.Fatal(body)
		}
	}
	r.await("the end of old rows", func() bool {
		a, err := r.backend.AccessLog(t.Context(), conf.AccessFilter{})
		h, herr := r.backend.History(t.Context(), conf.HistoryFilter{})
		return err == nil && herr == nil && a.Total == 1 && h.Total == 1
	})
	if err := r.replicas.Current().Store().Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
