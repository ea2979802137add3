package peers

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Clocks that differ by more than the way takes are told apart, in both directions.
func TestClocksAreCompared(t *testing.T) {
	for theirs, want := range map[time.Duration]string{0: "", 30 * time.Second: "", time.Hour: "1h0m0s ahead of", -time.Hour: "1h0m0s behind"} {
		other := Clocks{now: func() time.Time { return time.Now().Round(0).Add(theirs) }}
		w, began := httptest.NewRecorder(), time.Now()
		other.answering(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/status", nil))
		c := &Cluster{Clocks: Clocks{now: time.Now}}
		ahead, ok := c.Clocks.compare("n2", began, w.Header())
		if !ok || (ahead-theirs).Abs() > time.Since(began) || c.Clocks.Skews()["n2"] != ahead {
			t.Errorf("a clock %v ahead: %v %v, kept %v", theirs, ahead, ok, c.Clocks.Skews())
		}
		err := c.Clocks.Err()
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), "n2 is "+want) || conf.HintOf(err) == "") {
			t.Errorf("a clock %v ahead: %v", theirs, err)
		}
	}
	if _, ok := (&Clocks{now: time.Now}).compare("old", time.Now(), http.Header{}); ok {
		t.Error("a member that does not tell was compared")
	}
}
