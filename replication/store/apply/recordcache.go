package apply

import "github.com/holdfast-config/holdfast/replication/store/tables"

// maxCached is for how many services the cache has the record. Readers have
// these records in memory anyway.
const maxCached = 4096

// RecordCache has services as the last change left them. It saves the next change
// from reading, and verifying, what was just written.
type RecordCache map[string]*tables.StoredRecord

// commit takes over the records of a batch, after its COMMIT; nil: to be read again.
func (c RecordCache) commit(records map[string]*tables.StoredRecord) {
	if len(c)+len(records) > maxCached {
		clear(c)
	}
	if c == nil || len(records) > maxCached {
		return
	}
	for service, r := range records {
		if r == nil {
			delete(c, service)
		} else {
			c[service] = r
		}
	}
}

// record is the service as it is now, inside of the batch.
func (t *tx) record(service string) (*tables.StoredRecord, error) {
	r, ok := t.records[service]
	if !ok {
		r = t.conf.Cache[service]
	}
	if r != nil {
		return r, nil
	}
	r, err := tables.ReadStored(t.ctx, t.w, t.dig, service)
	if err == nil {
		t.setRecord(service, r)
	}
	return r, err
}

// setRecord sets what a change made of a service; nil: it is to be read again.
func (t *tx) setRecord(service string, r *tables.StoredRecord) {
	old, had := t.records[service]
	t.undo = append(t.undo, cacheUndo{service, old, had})
	t.records[service] = r
}

// cacheUndo is what tx.records had of a service before a change.
type cacheUndo struct {
	service string
	old     *tables.StoredRecord
	had     bool
}

// undoRecords undoes what the present entry set.
func (t *tx) undoRecords() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		if u := t.undo[i]; u.had {
			t.records[u.service] = u.old
		} else {
			delete(t.records, u.service)
		}
	}
	t.undo = t.undo[:0]
}
