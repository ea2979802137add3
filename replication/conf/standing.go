package conf

// Standing is what the health of an agent of any kind follows from. Standing.Judge is
// the table of docs/health.md, and the only place that sets a mode and ok from it.
type Standing struct {
	Able   Mode    // what the agent's own data allows: normal when it applies, or accepts, what a leader signs
	Leader bool    // a leader was heard from within the time that an election takes, or this agent leads
	Faults []error // what keeps it from being ok in any mode; nil elements are none
}

// Judge sets operational_mode and ok of h. Its database_status and lkg_cache_valid are
// set before.
func (s Standing) Judge(h *Health) {
	h.OperationalMode = s.Able
	if s.Able == ModeNormal && !s.Leader {
		h.OperationalMode = ModeReadOnly
	}
	h.OK = h.DatabaseStatus == DatabaseHealthy && h.OperationalMode == ModeNormal && h.LKGCacheValid
	for _, err := range s.Faults {
		h.OK = h.OK && err == nil
	}
}
