package gitops

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// The folders of a directory.
const (
	servicesDir = "services"
	schemasDir  = "schemas"
	profilesDir = "profiles"
)

// Sources of a secret in a file.
const (
	secretStored = "stored" // it is set in the cluster, by hand
	secretEnv    = "env:"   // apply takes it from the environment when it is not set
)

// maxFile is the size of one file: a document in YAML is larger than it is in JSON.
const maxFile = 4 * conf.MaxDocument

// serviceFile is the content of services/NAME.yaml.
type serviceFile struct {
	Values  json.RawMessage   `json:"values,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"`
}

// profileFile is the content of profiles/NAME.yaml.
type profileFile struct {
	Description string                     `json:"description,omitempty"`
	Services    map[string]json.RawMessage `json:"services"`
}

// directory is what the files say.
type directory struct {
	path     string
	services map[string]*serviceFile
	schemas  map[string]json.RawMessage
	profiles map[string]*profileFile
	files    map[string]string // name of a file by folder and name of what it describes
	hash     string            // of all that was read
}

// read reads a directory. One that has no such folder is an error, unless it may be empty.
func read(path string, mayBeEmpty bool) (*directory, error) {
	d := &directory{
		path: path, services: map[string]*serviceFile{}, schemas: map[string]json.RawMessage{},
		profiles: map[string]*profileFile{}, files: map[string]string{},
	}
	sum := sha256.New()
	folders := 0
	for _, folder := range []string{servicesDir, schemasDir, profilesDir} {
		entries, err := os.ReadDir(filepath.Join(path, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, conf.Errorf(conf.CodeUsage, "read the files: %w", err)
		}
		folders++
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") || strings.EqualFold(filepath.Ext(e.Name()), ".md") {
				continue
			}
			data, err := d.readFile(folder, e)
			if err != nil {
				return nil, err
			}
			for _, part := range []string{folder, e.Name(), string(data)} {
				s := sha256.Sum256([]byte(part))
				sum.Write(s[:])
			}
		}
	}
	if folders == 0 && !mayBeEmpty {
		return nil, conf.Errorf(conf.CodeUsage, "%s has none of the folders %s, %s and %s", path, servicesDir, schemasDir, profilesDir).
			WithHint("name the directory with -f, or write the cluster's state into it: holdfast pull -f %s", path)
	}
	d.hash = hex.EncodeToString(sum.Sum(nil))
	return d, nil
}

// readFile reads one file into d, and returns its bytes.
func (d *directory) readFile(folder string, e fs.DirEntry) ([]byte, error) {
	file := filepath.Join(folder, e.Name())
	name := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
	check, allowed := conf.CheckService, []string{".yaml", ".yml", ".json"}
	switch folder {
	case schemasDir:
		allowed = []string{".json"}
	case profilesDir:
		check = conf.CheckProfile
	}
	if e.IsDir() || !slices.Contains(allowed, filepath.Ext(e.Name())) {
		return nil, conf.Errorf(conf.CodeInvalid, "%s: the folder %s has files that end in %s only", file, folder, strings.Join(allowed, ", ")).
			WithHint("move it elsewhere, or correct its name")
	}
	if err := check(name); err != nil {
		return nil, conf.Errorf(conf.CodeInvalid, "%s: %w", file, err).WithHint("a file is named by what it describes")
	}
	if first := d.files[folder+"/"+name]; first != "" {
		return nil, conf.Errorf(conf.CodeInvalid, "%s and %s are both of %s", first, file, name).WithHint("keep one of them")
	}
	d.files[folder+"/"+name] = file
	data, err := os.ReadFile(filepath.Join(d.path, file))
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "read the files: %w", err)
	}
	if len(data) > maxFile {
		return nil, conf.Errorf(conf.CodeTooLarge, "%s has more than %d bytes", file, maxFile)
	}
	if err := d.parse(folder, name, data); err != nil {
		return nil, conf.Errorf(conf.CodeOf(err), "%s: %w", file, err).WithHint("%s", conf.HintOf(err))
	}
	return data, nil
}

func (d *directory) parse(folder, name string, data []byte) (err error) {
	if folder == schemasDir {
		_, err = conf.ParseSchema(data)
		d.schemas[name] = data
		return err
	}
	if head := bytes.TrimSpace(data); len(head) == 0 {
		data = []byte("{}")
	} else if head[0] != '{' { // what starts like JSON must be JSON
		if data, err = yamljson.ToJSON(data); err != nil {
			return err
		}
	}
	if folder == profilesDir {
		p := &profileFile{}
		d.profiles[name] = p
		if err = conf.DecodeStrictDepth(data, maxFile, conf.MaxDepth+2, p); err != nil {
			return err
		}
		for service, values := range p.Services {
			if _, err := object(values); err != nil {
				return conf.Errorf(conf.CodeOf(err), "the values of %s: %w", service, err)
			}
		}
		return nil
	}
	s := &serviceFile{}
	d.services[name] = s
	if err = conf.DecodeStrictDepth(data, maxFile, conf.MaxDepth+1, s); err != nil {
		return err
	}
	if len(s.Values) == 0 || string(s.Values) == "null" {
		s.Values = json.RawMessage("{}")
	}
	if _, err := object(s.Values); err != nil {
		return conf.Errorf(conf.CodeOf(err), "values: %w", err)
	}
	for _, key := range conf.SortedKeys(s.Secrets) {
		from := s.Secrets[key]
		if from != secretStored && (!strings.HasPrefix(from, secretEnv) || from == secretEnv) {
			return conf.Errorf(conf.CodeInvalid, "the secret %s has no source that is known", key).
				WithHint("write %s: env:VARIABLE, or %s: stored; a value does not belong into a file", key, key)
		}
	}
	return nil
}

func object(doc json.RawMessage) (map[string]any, error) {
	return conf.ParseObject(doc, conf.MaxDocument)
}
