package admin

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	"github.com/holdfast-config/holdfast/replication/httperror"
)

const (
	// strictParam and strictType ask for exactly the members of ConfigUpdateResponse in
	// errors too: a model that forbids others refuses the error's code, hint and details.
	strictParam = "strict"
	strictType  = "application/vnd.config.v1+json"
)

// strict reports whether the caller wants a strict body, and whether by Accept.
func (c *call) strict() (strict, byType bool) {
	if c.route == nil || !c.route.update {
		return false, false
	}
	for _, value := range c.r.Header.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			if media, _, err := mime.ParseMediaType(part); err == nil && media == strictType {
				return true, true
			}
		}
	}
	q := c.r.URL.Query() // not c.query: the error may be about the parameters
	v := q.Get(strictParam)
	return q.Has(strictParam) && (v == "" || v == "1" || v == "true"), false
}

// strictBody is a response of a route that updates, with the members of
// ConfigUpdateResponse only. The text of the error has what the others say.
func strictBody(status int, data []byte) []byte {
	if status < http.StatusBadRequest {
		return data
	}
	text := "the agent answered " + http.StatusText(status)
	var b httperror.Body
	if json.Unmarshal(data, &b) == nil && b.Error != "" {
		text = b.Error
		for _, d := range b.Details {
			if line := d.Key + ": " + d.Message; !strings.Contains(text, d.Message) {
				text += "; " + line
			}
		}
		if b.Hint != "" {
			text += " (" + b.Hint + ")"
		}
	}
	out, err := httperror.Marshal(updateResponse{Error: &text})
	if err != nil { // a struct of strings
		return data
	}
	return append(out, '\n')
}
