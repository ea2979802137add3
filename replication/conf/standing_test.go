package conf

import (
	"errors"
	"testing"
)

func TestStanding(t *testing.T) {
	full := errors.New("the disk is full")
	for name, c := range map[string]struct {
		s        Standing
		database DatabaseStatus
		lkg      bool
		mode     Mode
		ok       bool
	}{
		"all is well":                    {Standing{Able: ModeNormal, Leader: true}, DatabaseHealthy, true, ModeNormal, true},
		"nil faults":                     {Standing{Able: ModeNormal, Leader: true, Faults: []error{nil, nil}}, DatabaseHealthy, true, ModeNormal, true},
		"no leader":                      {Standing{Able: ModeNormal}, DatabaseHealthy, true, ModeReadOnly, false},
		"rebuilding, with a leader":      {Standing{Able: ModeRebuilding, Leader: true}, DatabaseCorrupted, true, ModeRebuilding, false},
		"rebuilding without one":         {Standing{Able: ModeRebuilding}, DatabaseCorrupted, true, ModeRebuilding, false},
		"locked":                         {Standing{Able: ModeReadOnly, Leader: true}, DatabaseLocked, true, ModeReadOnly, false},
		"no last-known-good file":        {Standing{Able: ModeNormal, Leader: true}, DatabaseHealthy, false, ModeNormal, false},
		"accepts changes, with a defect": {Standing{Able: ModeNormal, Leader: true, Faults: []error{nil, full}}, DatabaseHealthy, true, ModeNormal, false},
	} {
		h := Health{DatabaseStatus: c.database, LKGCacheValid: c.lkg}
		c.s.Judge(&h)
		if h.OperationalMode != c.mode || h.OK != c.ok {
			t.Errorf("%s: %s, ok %t", name, h.OperationalMode, h.OK)
		}
	}
}
