package broker

import "encoding/binary"

const (
	publishType = 0x30
	retainFlag  = 0x01
	propUser    = 0x26
	propSubID   = 0x0b
)

// header describes a PUBLISH packet before its payload. Payloads are shared by all
// connections and never copied.
type header struct {
	v5     bool
	qos    byte
	retain bool
	id     uint16 // with QoS 1
	subIDs []int
}

// publishHeader appends the header of m to dst.
func publishHeader(dst []byte, m *message, h header) []byte {
	var subs []byte
	for _, id := range h.subIDs {
		subs = appendVarint(append(subs, propSubID), id)
	}
	props := len(m.props) + len(subs)
	n := 2 + len(m.topic) + len(m.payload)
	if h.qos > 0 {
		n += 2
	}
	if h.v5 {
		n += len(appendVarint(nil, props)) + props
	}
	first := byte(publishType) | h.qos<<1
	if h.retain {
		first |= retainFlag
	}
	dst = appendVarint(append(dst, first), n)
	dst = appendString(dst, m.topic)
	if h.qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, h.id)
	}
	if h.v5 {
		dst = appendVarint(dst, props)
		dst = append(append(dst, m.props...), subs...)
	}
	return dst
}

// appendVarint appends MQTT's variable byte integer.
func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
