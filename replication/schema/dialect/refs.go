package dialect

import (
	"net/url"
	"strings"
)

// localize makes every $ref that leads to a place in the document, through the $id of
// the document or of a part of it, or through a name, a pointer into the document. It
// removes the $id of parts; that of the document stays.
func localize(doc map[string]any) {
	root := &url.URL{}
	if id, ok := doc["$id"].(string); ok {
		if u, err := url.Parse(id); err == nil {
			u.Fragment = ""
			root = u
		}
	}
	places := map[string]string{"": "", root.String(): ""}
	bases := map[string]*url.URL{} // by pointer, where they change
	refers := false
	walk(doc, root, func(n *node) {
		for _, k := range []string{"$id", "$anchor", "$ref"} {
			_, has := n.schema[k]
			refers = refers || has
		}
		if id, ok := n.schema["$id"].(string); ok && n.at != "" {
			u, err := n.base.Parse(id)
			switch {
			case err != nil:
			case strings.HasPrefix(id, "#"): // a name, until draft-07
				places[u.String()] = n.at
			default:
				u.Fragment = ""
				n.base = u
				bases[n.at] = u
				places[u.String()] = n.at
			}
		}
		if name, ok := n.schema["$anchor"].(string); ok {
			u := *n.base
			u.Fragment = name
			places[u.String()] = n.at
		}
	})
	if !refers {
		return
	}
	walk(doc, root, func(n *node) {
		if u, ok := bases[n.at]; ok {
			n.base = u
		}
		if ref, ok := n.schema["$ref"].(string); ok {
			if local, ok := place(places, n.base, ref); ok {
				n.schema["$ref"] = local
			}
		}
	})
	walk(doc, root, func(n *node) {
		if n.at != "" {
			delete(n.schema, "$id")
			return
		}
		if id, ok := n.schema["$id"].(string); ok && strings.HasPrefix(id, "#") {
			delete(n.schema, "$id")
		}
	})
}

// place returns the pointer to what a reference leads to, if that is in the document.
func place(places map[string]string, base *url.URL, ref string) (string, bool) {
	u, err := base.Parse(ref)
	if err != nil {
		return "", false
	}
	if at, ok := places[u.String()]; ok && u.Fragment != "" {
		return "#" + at, true
	}
	fragment := u.EscapedFragment()
	u.Fragment, u.RawFragment = "", ""
	at, ok := places[u.String()]
	if !ok || fragment != "" && !strings.HasPrefix(fragment, "/") {
		return "", false
	}
	return "#" + at + fragment, true
}
