package localapi

import "sync/atomic"

// readMark notes that something went out to a service. It costs one atomic load, and one
// store the first time after it was taken: no lock and no allocation.
type readMark struct {
	set atomic.Bool
	any *atomic.Bool // of the document: one of its marks is set; nil: nobody asks
}

func (m *readMark) note() {
	if m == nil || m.set.Load() {
		return
	}
	m.set.Store(true)
	if m.any != nil {
		m.any.Store(true)
	}
}

func (m *readMark) take() bool { return m.set.Load() && m.set.Swap(false) }

// MarkRead notes that a service has d: the document, or with a key one value of it. It is for
// whatever sends parts of a document, and may be called for each response.
func (d *Document) MarkRead(key string) {
	if key == "" || d.plain == nil {
		d.whole.note()
		return
	}
	for _, c := range []*content{d.plain, d.full} {
		if c == nil {
			continue
		}
		if v := c.derived.get().values[key]; v != nil {
			v.read.note()
			return
		}
	}
	d.whole.note() // in quotes, or an object that is made for the request
}

// WasRead reports whether something was read of d since the last TakeReads.
func (d *Document) WasRead() bool { return d.someRead.Load() }

// TakeReads returns the keys that were read since the last call; the empty key is the whole
// document.
func (d *Document) TakeReads() (keys []string) {
	if !d.someRead.Load() || !d.someRead.Swap(false) {
		return nil
	}
	if d.whole.take() {
		keys = append(keys, "")
	}
	if d.plain == nil {
		return keys
	}
	contents := []*content{d.plain}
	if d.full != nil && d.full != d.plain {
		contents = append(contents, d.full)
	}
	for _, c := range contents {
		if !c.derived.built.Load() {
			continue // no key of it went out
		}
		for _, name := range c.derived.names {
			if c.derived.values[name].read.take() {
				keys = append(keys, name)
			}
		}
	}
	if keys == nil {
		return []string{""} // of a form that was made for the request
	}
	return keys
}
