package testenv

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Canary is a value that must be found nowhere. It is recognised by a piece of it
// that no encoding breaks up.
type Canary struct {
	Name  string
	Value string // as a text; JSON gives it in a document
	core  string
}

const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// NewCanary makes a text with everything in it that encodings write differently.
func NewCanary(name string) Canary {
	b := make([]byte, 20)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	core := string(b)
	return Canary{Name: name, Value: "\"<é> " + core + " &/+%\\\u2028", core: core}
}

// NewNumberCanary makes a number of 15 digits.
func NewNumberCanary(name string) Canary {
	n := fmt.Sprint(100_000_000_000_000 + rand.Int64N(900_000_000_000_000))
	return Canary{Name: name, Value: n, core: n}
}

// JSON is the value as a JSON string.
func (c Canary) JSON() string {
	b, _ := json.Marshal(c.Value) //nolint:errchkjson // a string never fails
	return string(b)
}

// needles are the forms in which the core is looked for.
func (c Canary) needles() map[string][]byte {
	percent, unicode := "", ""
	for i := range len(c.core) {
		percent += fmt.Sprintf("%%%02X", c.core[i])
		unicode += fmt.Sprintf(`\u%04x`, c.core[i])
	}
	out := map[string][]byte{
		"plain": []byte(c.core), "hex": []byte(hex.EncodeToString([]byte(c.core))), "HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(c.core)))),
		"percent": []byte(percent), "percent in lower case": []byte(strings.ToLower(percent)), `\u`: []byte(unicode),
	}
	// What surrounds the core shifts its base64: of each shift the middle is fixed.
	for shift := range 3 {
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := enc.EncodeToString(append(bytes.Repeat([]byte{'x'}, shift), c.core...))
			out[fmt.Sprintf("%s+%d", name, shift)] = []byte(text[4 : len(text)-4])
		}
	}
	return out
}

// Hunt looks for canaries. The zero value has none.
type Hunt struct {
	Canaries []Canary
	Bytes    int // looked at
	Places   int
	Hits     []string
}

// Look searches data, which came from place.
func (h *Hunt) Look(place string, data []byte) {
	h.Bytes += len(data)
	h.Places++
	for _, c := range h.Canaries {
		for form, needle := range c.needles() {
			if i := bytes.Index(data, needle); i >= 0 {
				h.Hits = append(h.Hits, fmt.Sprintf("%s: %s in the form %s at byte %d", place, c.Name, form, i))
			}
		}
	}
}

// LookTree searches every file below dir.
func (h *Hunt) LookTree(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) && path != dir { // a directory of a moment
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) { // a file of a moment
			return nil
		}
		h.Look(path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Forms are texts that hide the canary in each of the forms that Look knows, to
// prove that it finds them.
func (c Canary) Forms() map[string]string {
	quoted, _ := json.Marshal(c.Value) //nolint:errchkjson // a string never fails
	out := map[string]string{
		"plain": "x" + c.Value, "json": string(quoted), "json twice": fmt.Sprintf("%q", quoted), "query": "?a=" + url.QueryEscape(c.Value),
		"path": url.PathEscape(c.Value), "hex": hex.EncodeToString([]byte(c.Value)), "HEX": fmt.Sprintf("%X", c.Value),
	}
	for shift := range 3 {
		data := append(bytes.Repeat([]byte{'y'}, shift), c.Value...)
		out[fmt.Sprint("base64 ", shift)] = base64.StdEncoding.EncodeToString(data)
		out[fmt.Sprint("base64url ", shift)] = base64.URLEncoding.EncodeToString(data)
	}
	return out
}
