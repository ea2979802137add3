package foreign

import (
	"bytes"
	"encoding/base64"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// variableName is a name that is probably meant for the environment.
var variableName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// inner are the names of keys of a ConfigMap that hold a whole file.
var inner = map[string]string{".properties": "properties", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".env": "env"}

// readConfigMap reads what kubectl get -o yaml or -o json writes: ConfigMaps, Secrets and
// Lists of them.
func readConfigMap(f File, n *notes) ([]entry, error) {
	var docs []any
	if head := bytes.TrimSpace(bytes.TrimPrefix(f.Data, bom)); bytes.HasPrefix(head, []byte("{")) {
		v, err := parseJSON(f, &notes{})
		if err != nil {
			return nil, err
		}
		docs = []any{v}
	} else {
		var err error
		if docs, err = yamlDocuments(f, &notes{}); err != nil { // of the manifest, no note is of interest
			return nil, err
		}
	}
	var out []entry
	for _, d := range docs {
		list, err := manifest(f, d, n)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// manifest reads one object of Kubernetes.
func manifest(f File, v any, n *notes) (out []entry, err error) {
	m, _ := v.(map[string]any)
	meta, _ := m["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	kind, _ := m["kind"].(string)
	where := f.Name + ": " + kind + " " + name
	switch {
	case kind == "List" || kind == "ConfigMapList" || kind == "SecretList":
		items, _ := m["items"].([]any)
		for _, item := range items {
			if one, ok := item.(map[string]any); ok && one["kind"] == nil { // those of a typed list have none
				one["kind"] = strings.TrimSuffix(kind, "List")
			}
			list, err := manifest(f, item, n)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
		return out, nil
	case kind == "ConfigMap":
		if binary, _ := m["binaryData"].(map[string]any); len(binary) > 0 {
			return nil, conf.Errorf(conf.CodeUnsupported, "%s has binaryData, which is no configuration", where).WithHint("take it out of the file")
		}
		return texts(where, m["data"], n)
	case kind == "Secret":
		return secrets(where, m)
	}
	return nil, conf.Errorf(conf.CodeMalformed, "%s holds no ConfigMap and no Secret, but %q", f.Name, conf.Clip(kind)).
		WithHint("write it with kubectl get configmap NAME -o yaml")
}

// texts reads the data of a ConfigMap.
func texts(where string, data any, n *notes) (out []entry, err error) {
	m, ok := data.(map[string]any)
	if data != nil && !ok {
		return nil, conf.Errorf(conf.CodeMalformed, "%s: data is no object", where)
	}
	for _, key := range conf.SortedKeys(m) {
		value, ok := m[key].(string)
		if !ok {
			return nil, conf.Errorf(conf.CodeMalformed, "%s: the value of %s is not text", where, conf.Clip(key)).
				WithHint("Kubernetes takes text only: put quotes around it")
		}
		if format, ok := inner[path.Ext(key)]; ok {
			list, err := reader(format)(File{Name: where + ", " + key, Data: []byte(value)}, n)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
			continue
		}
		out = append(out, entry{key: key, variable: variableName.MatchString(key), value: text(value), where: where})
	}
	return out, nil
}

// secrets reads a Secret: every value of it is one.
func secrets(where string, m map[string]any) (out []entry, err error) {
	for _, part := range []string{"data", "stringData"} {
		data, ok := m[part].(map[string]any)
		if m[part] != nil && !ok {
			return nil, conf.Errorf(conf.CodeMalformed, "%s: %s is no object", where, part)
		}
		for _, key := range conf.SortedKeys(data) {
			value, ok := data[key].(string)
			if ok && part == "data" {
				plain, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
				ok, value = err == nil, string(plain)
			}
			if !ok || !utf8.ValidString(value) {
				return nil, conf.Errorf(conf.CodeMalformed, "%s: the value of %s is no text in base64", where, conf.Clip(key))
			}
			out = append(out, entry{key: key, variable: variableName.MatchString(key), value: sealed(value), where: where})
		}
	}
	return out, nil
}
