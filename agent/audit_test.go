package agent_test

import (
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	r := start(t, testenv.Options(t, map[string]string{"CONFIG_AUDIT_RETENTION": "1s", "CONFIG_HISTORY_RETENTION": "1s"})).ready()
	for _, level := range []string{"2", "3", "4"} {
		if code, body := r.set(level); code != 200 {
			t.Fatal(body)
		}
	}
	r.Await("the end of old rows", func() bool {
		a, err := r.Rooms().Backend.AccessLog(t.Context(), conf.AccessFilter{})
		h, herr := r.Rooms().Backend.History(t.Context(), conf.HistoryFilter{})
		return err == nil && herr == nil && a.Total == 1 && h.Total == 1
	})
	if err := r.Rooms().Replicas.Current().Store().Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
