package command

// maxNesting is how deep the fast reader goes.
const maxNesting = 64

// value passes a JSON value that has no white space and no escapes in it.
func (r *reader) value(depth int) bool {
	if r.at >= len(r.b) || depth > maxNesting {
		return false
	}
	switch c := r.b[r.at]; c {
	case '"':
		return r.str()
	case '{':
		return r.members('}', depth)
	case '[':
		return r.members(']', depth)
	case 't':
		return r.word("true")
	case 'f':
		return r.word("false")
	case 'n':
		return r.word("null")
	default:
		return r.num()
	}
}

// members passes an object or an array, whichever ends with end.
func (r *reader) members(end byte, depth int) bool {
	r.at++
	if r.skip(end) {
		return true
	}
	for {
		if end == '}' && (!r.str() || !r.skip(':')) {
			return false
		}
		if !r.value(depth + 1) {
			return false
		}
		if r.skip(end) {
			return true
		}
		if !r.skip(',') {
			return false
		}
	}
}

func (r *reader) str() bool {
	if !r.skip('"') {
		return false
	}
	for i := r.at; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '"':
			r.at = i + 1
			return true
		case c < 0x20 || c == '\\':
			return false
		}
	}
	return false
}

// num passes a number as RFC 8259 has it.
func (r *reader) num() bool {
	r.skip('-')
	if !r.skip('0') && !r.digits() {
		return false
	}
	if r.skip('.') && !r.digits() {
		return false
	}
	if r.skip('e') || r.skip('E') {
		if !r.skip('+') {
			r.skip('-')
		}
		return r.digits()
	}
	return true
}

func (r *reader) digits() bool {
	start := r.at
	for r.at < len(r.b) && '0' <= r.b[r.at] && r.b[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}
