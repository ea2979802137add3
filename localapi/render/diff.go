package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	godiff "github.com/rogpeppe/go-internal/diff"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func diff(path string, old, data []byte) []byte {
	return headless(godiff.Diff(path, old, path+" (new)", data))
}

// headless is a diff without the line "diff A B".
func headless(d []byte) []byte {
	if bytes.HasPrefix(d, []byte("diff ")) {
		_, d, _ = bytes.Cut(d, []byte("\n"))
	}
	return d
}

const (
	hiddenOld = "(a line of the old file, which may have a secret)"
	hiddenNew = "(a line that may have a secret)"
)

// hiddenDiff compares like diff, and shows of each line only what masked has in its place:
// the same file rendered with *** for each secret. Lines of the old file alone are hidden,
// since it may have secrets that are unknown by now.
func hiddenDiff(path string, old, data, masked []byte) []byte {
	oldLines, newLines, shown := lines(old), lines(data), lines(masked)
	if len(shown) != len(newLines) {
		shown = nil
	}
	// Each different line is a number for the comparison.
	numbers, text := map[string]int{}, []string{}
	number := func(line, show string) string {
		n, ok := numbers[line]
		if !ok {
			n = len(text)
			numbers[line], text = n, append(text, show)
		}
		return strconv.Itoa(n) + "\n"
	}
	var a, b bytes.Buffer
	for i, line := range newLines {
		show := hiddenNew
		if shown != nil {
			show = string(shown[i])
		}
		b.WriteString(number(string(line), show))
	}
	for _, line := range oldLines {
		a.WriteString(number(string(line), hiddenOld))
	}
	var out bytes.Buffer
	header := 2
	for line := range bytes.Lines(diff(path, a.Bytes(), b.Bytes())) {
		n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
		if header > 0 || err != nil || line[0] == '@' {
			header--
			out.Write(line)
			continue
		}
		fmt.Fprintf(&out, "%c%s\n", line[0], text[n])
	}
	return out.Bytes()
}

func lines(data []byte) [][]byte {
	data = bytes.TrimSuffix(data, []byte("\n"))
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(data, []byte("\n"))
}

// mask is what stands for a secret.
const mask = "***"

// maskSecrets returns the documents with a mask for each value that the plain ones do not
// have.
func maskSecrets(docs, plain []Document) ([]Document, error) {
	out := make([]Document, len(docs))
	for i, d := range docs {
		if i >= len(plain) || plain[i].Service != d.Service || plain[i].Version != d.Version || plain[i].Epoch != d.Epoch {
			return nil, conf.Errorf(conf.CodeStale, "the documents are of two versions")
		}
		full, err := conf.ParseObject(d.Config, max(len(d.Config), conf.MaxDocument))
		if err != nil {
			return nil, err
		}
		open, err := conf.ParseObject(plain[i].Config, max(len(plain[i].Config), conf.MaxDocument))
		if err != nil {
			return nil, err
		}
		maskIn(full, open)
		out[i] = d
		if out[i].Config, err = json.Marshal(full); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func maskIn(full, open map[string]any) {
	for k, v := range full {
		had, known := open[k]
		object, ok := v.(map[string]any)
		if ok {
			below, _ := had.(map[string]any)
			maskIn(object, below)
			continue
		}
		if !known || !reflect.DeepEqual(v, had) {
			full[k] = mask
		}
	}
}
